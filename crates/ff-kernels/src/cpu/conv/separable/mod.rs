//! Separable units of a small detector: a 1x1 convolution, a depthwise 3x3 on top of it, ReLU, a 2x2 max-pool.
//!
//! One image on one thread: photos are what runs in parallel. A row of the 1x1 product is made when the depthwise
//! first needs it and lives in a ring of three, so that the map between the two is never stored. The unit behind the
//! stem takes its rows from the stem in the same way.
//!
//! | file | what |
//! |---|---|
//! | `rows` | where the rows that go in come from: a map, or the stem over pixels |
//! | `product` | a block of pixels times weights, in registers |
//! | `forward` | the ring, the depthwise, what comes after |

mod forward;
mod product;
mod rows;

use crate::cpu::base::buffer::Buffer;
use crate::cpu::base::shape::{check_at_least, check_channels, check_len, product as length};
use crate::cpu::simd::{Level, dispatch};

/// What happens to the sums of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing: logits and offsets.
    Plain,
    /// ReLU.
    Relu,
    /// ReLU, then a max-pool of 2x2 with stride 2.
    ReluPool,
}

/// 1x1 convolution + bias, then depthwise 3x3 (zero pad 1) + bias: (H,W,Ci) -> (H,W,Co), both multiples of 16.
#[derive(Clone)]
pub struct Separable {
    inputs: usize,
    outputs: usize,
    /// (Ci,Co)
    pointwise: Vec<f32>,
    pointwise_bias: Vec<f32>,
    /// (9,Co)
    depthwise: Vec<f32>,
    depthwise_bias: Vec<f32>,
}

/// Full 3x3 convolution with stride 2 (zero pad 1) + bias, ReLU: pixels (H,W,3) u8 -> (H/2,W/2,C), C a multiple of 16.
#[derive(Clone)]
pub struct PixelStem {
    outputs: usize,
    /// (3,3,3,C): row, column, colour
    weights: Vec<f32>,
    bias: Vec<f32>,
}

/// Pixels (H,W,3), and the size that zeros to the right and below make of them.
#[derive(Clone, Copy, Debug)]
pub struct PaddedPixels<'a> {
    /// `height * width * 3` bytes.
    pub pixels: &'a [u8],
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Columns with the zeros, an even number.
    pub padded_width: usize,
    /// Rows with the zeros, an even number.
    pub padded_height: usize,
}

impl Separable {
    /// A unit of weights as PyTorch stores them: pointwise (Co,Ci,1,1), depthwise (Co,1,3,3), a bias (Co) each.
    ///
    /// # Panics
    /// Lengths that do not fit each other; channels that are no multiple of 16.
    pub fn new(pointwise: &[f32], pointwise_bias: &[f32], depthwise: &[f32], depthwise_bias: &[f32]) -> Self {
        let outputs = pointwise_bias.len();
        check_channels("separable unit, outputs", outputs);
        let inputs = pointwise.len() / outputs;
        check_channels("separable unit, inputs", inputs);
        check_len("pointwise weights", pointwise, length("weights", &[inputs, outputs]));
        check_len("depthwise weights", depthwise, length("weights", &[9, outputs]));
        check_len("depthwise bias", depthwise_bias, outputs);
        Separable {
            inputs,
            outputs,
            pointwise: transposed(pointwise, outputs),
            pointwise_bias: pointwise_bias.to_vec(),
            depthwise: transposed(depthwise, outputs),
            depthwise_bias: depthwise_bias.to_vec(),
        }
    }

    /// Channels that go in.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Channels that come out.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `map` (H,W,Ci) -> the start of `out`: (H,W,Co), or (H/2,W/2,Co) after a pool. `scratch` grows as needed.
    ///
    /// # Panics
    /// A map of another length, an output too short, odd sides before a pool, a level that this machine has not.
    pub fn forward(
        &self,
        level: Level,
        map: &[f32],
        (height, width): (usize, usize),
        ending: Ending,
        scratch: &mut Workspace,
        out: &mut [f32],
    ) {
        check_len("separable unit, input", map, length("a map", &[height, width, self.inputs]));
        self.run(level, rows::Rows::map(map, width * self.inputs), (height, width), ending, scratch, out);
    }

    /// As [`Separable::forward`] over what `stem` makes of an image; the map between the two is never stored.
    ///
    /// # Panics
    /// As [`Separable::forward`]; pixels that do not fit their sizes; padded sides that are odd or too short.
    pub fn forward_pixels(
        &self,
        level: Level,
        stem: &PixelStem,
        image: PaddedPixels<'_>,
        ending: Ending,
        scratch: &mut Workspace,
        out: &mut [f32],
    ) {
        let PaddedPixels { pixels, width, height, padded_width, padded_height } = image;
        check_len("pixels", pixels, length("an image", &[height, width, 3]));
        assert!(
            padded_width.is_multiple_of(2)
                && padded_height.is_multiple_of(2)
                && width <= padded_width
                && height <= padded_height,
            "expected even sides of at least {width} x {height}, found {padded_width} x {padded_height}"
        );
        check_len("stem, outputs", &stem.bias, self.inputs);
        let size = (padded_height / 2, padded_width / 2);
        self.run(level, rows::Rows::stem(stem, image), size, ending, scratch, out);
    }

    fn run(
        &self,
        level: Level,
        rows: rows::Rows<'_>,
        (height, width): (usize, usize),
        ending: Ending,
        scratch: &mut Workspace,
        out: &mut [f32],
    ) {
        assert!(level.is_available(), "this machine has no {level:?}");
        assert!(height > 0 && width > 0, "expected a map with pixels, found {height} x {width}");
        let pooled = ending == Ending::ReluPool;
        assert!(
            !pooled || (height.is_multiple_of(2) && width.is_multiple_of(2)),
            "expected even sides before a pool, found {height} x {width}"
        );
        let (rows_out, columns_out) = if pooled { (height / 2, width / 2) } else { (height, width) };
        let len = length("a map", &[rows_out, columns_out, self.outputs]);
        check_at_least("separable unit, output", out, len);
        let scratch = scratch.of(forward::scratch_len(self, width) + rows.scratch_len(width));
        let kernel = forward::Forward { unit: self, rows, height, width, ending, scratch, out };
        // SAFETY: the level is available; the lengths of map, scratch and output are checked.
        unsafe { dispatch(level, kernel) }
    }
}

impl PixelStem {
    /// A stem of weights as PyTorch stores them, (C,3,3,3) with the colours as in the pixels, and a bias (C).
    ///
    /// # Panics
    /// Lengths that do not fit each other; channels that are no multiple of 16.
    pub fn new(weights: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        check_channels("stem, outputs", outputs);
        check_len("stem weights", weights, length("weights", &[outputs, 27]));
        let mut reordered = vec![0.0; weights.len()];
        for (k, kernel) in weights.chunks_exact(27).enumerate() {
            for colour in 0..3 {
                for place in 0..9 {
                    reordered[(place * 3 + colour) * outputs + k] = kernel[colour * 9 + place];
                }
            }
        }
        PixelStem { outputs, weights: reordered, bias: bias.to_vec() }
    }
}

/// Memory that is kept from call to call and grows when more is needed.
#[derive(Default)]
pub struct Workspace(Option<Buffer>);

impl Workspace {
    /// `len` floats with any values, at an address for vectors.
    pub fn of(&mut self, len: usize) -> &mut [f32] {
        let kept = self.0.take().filter(|buffer| buffer.len() >= len);
        &mut self.0.insert(kept.unwrap_or_else(|| Buffer::zeroed(len)))[..len]
    }
}

/// (rows,columns) -> (columns,rows)
fn transposed(matrix: &[f32], rows: usize) -> Vec<f32> {
    let columns = matrix.len() / rows;
    (0..matrix.len()).map(|i| matrix[i % rows * columns + i / rows]).collect()
}

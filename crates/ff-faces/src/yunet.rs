//! YuNet: a face detector of 59 small convolutions, in two sizes.
//!
//! Wu, Peng and Yu, "YuNet: a tiny millisecond-level face detector" (Machine Intelligence Research, 2023). `n` is
//! libfacedetection.train's `yunet_n`, `s` is OpenCV's `face_detection_yunet_2023mar`. BatchNorm is folded into the
//! weights. Pixels go in as they are, without mean or scale.

use ff_kernels::{
    Level,
    cpu::conv::separable::{Ending, PaddedPixels, PixelStem, Separable, Workspace},
};
use safetensors::SafeTensors;

use crate::{
    photo::{Photo, Point, Rect},
    tensors,
};

/// Images are padded to a multiple of it.
const STEP: usize = 32;
/// Pixels in a cell of each map of answers.
const STRIDES: [usize; 3] = [8, 16, 32];
/// A cell's answers: class, objectness, 4 of the box, 10 of the points.
const ANSWERS: usize = 16;
/// Of two boxes that overlap by more, the less probable one goes.
const MAX_IOU: f32 = 0.3;

/// One of the two networks.
pub(crate) struct YuNet {
    stem: PixelStem,
    backbone: Vec<Separable>,
    neck: [Separable; 3],
    share: Option<[Separable; 3]>,
    heads: [Separable; 3],
    level: Level,
}

/// Maps, kept from photo to photo.
#[derive(Default)]
pub(crate) struct Maps {
    scratch: Workspace,
    spare: [Workspace; 2],
    features: [Workspace; 3],
    answers: [Workspace; 3],
}

/// What the network says about one place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Detection {
    pub bounds: Rect,
    pub score: f32,
    /// Right eye, left eye, nose, right and left corner of the mouth.
    pub points: [Point; 5],
}

impl YuNet {
    /// The larger one: finds more small faces, and its points are nearer.
    pub fn n() -> Self {
        Self::embedded(include_bytes!("../data/yunet_n_f16.safetensors"))
    }

    /// The smaller one: finds more blurred, masked and dark faces.
    pub fn s() -> Self {
        Self::embedded(include_bytes!("../data/yunet_s_f16.safetensors"))
    }

    fn embedded(bytes: &[u8]) -> Self {
        Self::from_safetensors(bytes).expect("the networks inside this crate are whole")
    }

    /// A network from a file; channels are what its biases say.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let stage = |i: usize, j: usize| unit(&file, &[format!("backbone.model{i}.conv{j}")]);
        let mut backbone = vec![stage(0, 2)?];
        for i in 1..=5 {
            backbone.extend([stage(i, 1)?, stage(i, 2)?]);
        }
        let level = |name: &str| -> Result<[Separable; 3], String> {
            let one = |l: usize| unit(&file, &[name.replace('#', &l.to_string())]);
            Ok([one(0)?, one(1)?, one(2)?])
        };
        let heads = |l: usize| {
            let parts = ["cls", "obj", "bbox", "kps"].map(|part| format!("bbox_head.multi_level_{part}.{l}"));
            unit(&file, &parts)
        };
        let shared = "bbox_head.multi_level_share_convs.#.0";
        let has_share = file.names().iter().any(|name| name.contains("share_convs"));
        let stem_bias = vector(&file, "backbone.model0.conv1.bias")?;
        let stem = tensors::floats(&file, "backbone.model0.conv1.weight", &[stem_bias.len(), 3, 3, 3])?;
        // The network was trained on (blue, green, red).
        let stem: Vec<f32> =
            stem.chunks_exact(27).flat_map(|k| [&k[18..], &k[9..18], &k[..9]].concat()).collect();
        Ok(YuNet {
            stem: PixelStem::new(&stem, &stem_bias),
            backbone,
            neck: level("neck.lateral_convs.#")?,
            share: if has_share { Some(level(shared)?) } else { None },
            heads: [heads(0)?, heads(1)?, heads(2)?],
            level: Level::best(),
        })
    }

    /// Faces with at least this score in a photo of the size that it comes in, best first, each once.
    pub fn detect(&self, photo: &Photo<'_>, min_score: f32, maps: &mut Maps) -> Vec<Detection> {
        let (height, width) = self.answer(photo, maps);
        let mut found = Vec::new();
        let least = logit(min_score * min_score);
        for (stride, answers) in STRIDES.into_iter().zip(&mut maps.answers) {
            let (rows, columns) = (height / stride, width / stride);
            let answers = answers.of(rows * columns * ANSWERS);
            for (i, cell) in answers.chunks_exact(ANSWERS).enumerate() {
                // The root of a product is at most the root of either factor: few cells need an exponential.
                if cell[0].min(cell[1]) < least {
                    continue;
                }
                let score = (sigmoid(cell[0]) * sigmoid(cell[1])).sqrt();
                if score >= min_score {
                    found.push(decode(cell, (i % columns, i / columns), stride as f32, score));
                }
            }
        }
        each_once(found)
    }

    /// Computes the three maps of answers; gives height and width of the padded photo.
    fn answer(&self, photo: &Photo<'_>, maps: &mut Maps) -> (usize, usize) {
        let Maps { scratch, spare: [one, other], features: [f8, f16, f32], answers } = maps;
        let (height, width) = (photo.height.next_multiple_of(STEP), photo.width.next_multiple_of(STEP));
        let image = PaddedPixels {
            pixels: photo.pixels,
            width: photo.width,
            height: photo.height,
            padded_width: width,
            padded_height: height,
        };
        let at = |stride: usize| (height / stride, width / stride);
        let len = |stride: usize, unit: &Separable| height / stride * (width / stride) * unit.outputs();
        let level = self.level;
        let [u0, u1, u2, u3, u4, u5, u6, u7, u8, u9, u10] = self.backbone.as_slice() else {
            unreachable!("eleven units are read");
        };
        u0.forward_pixels(level, &self.stem, image, Ending::ReluPool, scratch, one.of(len(4, u0)));
        let mut run = |unit: &Separable, from: &[f32], stride: usize, ending: Ending, to: &mut Workspace| {
            let out_stride = if ending == Ending::ReluPool { 2 * stride } else { stride };
            unit.forward(level, from, at(stride), ending, scratch, to.of(len(out_stride, unit)));
        };
        run(u1, one.of(len(4, u0)), 4, Ending::Relu, other);
        run(u2, other.of(len(4, u1)), 4, Ending::Relu, one);
        run(u3, one.of(len(4, u2)), 4, Ending::Relu, other);
        run(u4, other.of(len(4, u3)), 4, Ending::ReluPool, one);
        run(u5, one.of(len(8, u4)), 8, Ending::Relu, other);
        run(u6, other.of(len(8, u5)), 8, Ending::Relu, f8);
        pool(f8.of(len(8, u6)), at(8), u6.outputs(), one.of(len(16, u6)));
        run(u7, one.of(len(16, u6)), 16, Ending::Relu, other);
        run(u8, other.of(len(16, u7)), 16, Ending::Relu, f16);
        pool(f16.of(len(16, u8)), at(16), u8.outputs(), one.of(len(32, u8)));
        run(u9, one.of(len(32, u8)), 32, Ending::Relu, other);
        run(u10, other.of(len(32, u9)), 32, Ending::Relu, f32);

        let [n8, n16, n32] = &self.neck;
        run(n32, f32.of(len(32, u10)), 32, Ending::Relu, one);
        add_enlarged(one.of(len(32, n32)), at(32), n32.outputs(), f16.of(len(16, u8)));
        std::mem::swap(one, f32);
        run(n16, f16.of(len(16, u8)), 16, Ending::Relu, one);
        add_enlarged(one.of(len(16, n16)), at(16), n16.outputs(), f8.of(len(8, u6)));
        std::mem::swap(one, f16);
        run(n8, f8.of(len(8, u6)), 8, Ending::Relu, one);
        std::mem::swap(one, f8);

        for (i, (map, answers)) in [f8, f16, f32].into_iter().zip(answers).enumerate() {
            let (stride, width) = (STRIDES[i], self.neck[i].outputs());
            let map_len = at(stride).0 * at(stride).1 * width;
            match &self.share {
                Some(share) => {
                    run(&share[i], map.of(map_len), stride, Ending::Relu, one);
                    run(&self.heads[i], one.of(len(stride, &share[i])), stride, Ending::Plain, answers);
                }
                None => run(&self.heads[i], map.of(map_len), stride, Ending::Plain, answers),
            }
        }
        (height, width)
    }
}

/// The unit of one or several that read the same map, side by side.
fn unit(file: &SafeTensors<'_>, names: &[String]) -> Result<Separable, String> {
    let (mut pw, mut pw_bias, mut dw, mut dw_bias) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for name in names {
        let bias = vector(file, &format!("{name}.pw.bias"))?;
        let (outputs, weight) = (bias.len(), format!("{name}.pw.weight"));
        let inputs =
            file.tensor(&weight).map_err(|error| format!("{weight}: {error}"))?.shape().get(1).copied();
        pw.extend(tensors::floats(file, &weight, &[outputs, inputs.unwrap_or(0), 1, 1])?);
        dw.extend(tensors::floats(file, &format!("{name}.dw.weight"), &[outputs, 1, 3, 3])?);
        dw_bias.extend(tensors::floats(file, &format!("{name}.dw.bias"), &[outputs])?);
        pw_bias.extend(bias);
    }
    Ok(Separable::new(&pw, &pw_bias, &dw, &dw_bias))
}

fn vector(file: &SafeTensors<'_>, name: &str) -> Result<Vec<f32>, String> {
    let len = file.tensor(name).map_err(|error| format!("{name}: {error}"))?.shape().iter().product();
    tensors::floats(file, name, &[len])
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The inverse of [`sigmoid`], a little lower so that rounding loses nothing.
fn logit(p: f32) -> f32 {
    (p / (1.0 - p)).ln() - 1e-3
}

/// A cell's answers in pixels.
fn decode(cell: &[f32], (column, row): (usize, usize), stride: f32, score: f32) -> Detection {
    let (column, row) = (column as f32, row as f32);
    let [_, _, dx, dy, log_width, log_height, points @ ..] = cell else {
        unreachable!("a cell has 16 answers");
    };
    let (x, y) = ((column + dx) * stride, (row + dy) * stride);
    let (width, height) = (log_width.exp() * stride, log_height.exp() * stride);
    let point = |i: usize| Point::new((column + points[2 * i]) * stride, (row + points[2 * i + 1]) * stride);
    Detection {
        bounds: Rect { x: x - width / 2.0, y: y - height / 2.0, width, height },
        score,
        points: std::array::from_fn(point),
    }
}

/// Greedy non-maximum suppression: the best first, without those that overlap a better one.
pub(crate) fn each_once(mut found: Vec<Detection>) -> Vec<Detection> {
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Detection> = Vec::new();
    for detection in found {
        if kept.iter().all(|better| better.bounds.iou(&detection.bounds) <= MAX_IOU) {
            kept.push(detection);
        }
    }
    kept
}

/// Max-pool 2x2 with stride 2 of a map with even sides.
fn pool(map: &[f32], (height, width): (usize, usize), channels: usize, out: &mut [f32]) {
    let row_len = width * channels;
    for (rows, out) in map.chunks_exact(2 * row_len).zip(out.chunks_exact_mut(row_len / 2)).take(height / 2) {
        let (upper, lower) = rows.split_at(row_len);
        let pairs = upper.chunks_exact(2 * channels).zip(lower.chunks_exact(2 * channels));
        for ((upper, lower), out) in pairs.zip(out.chunks_exact_mut(channels)) {
            for c in 0..channels {
                out[c] = upper[c].max(upper[c + channels]).max(lower[c].max(lower[c + channels]));
            }
        }
    }
}

/// Adds every pixel of a small map to the four pixels of the large one that it stands for.
fn add_enlarged(small: &[f32], (height, width): (usize, usize), channels: usize, large: &mut [f32]) {
    let row_len = 2 * width * channels;
    for y in 0..2 * height {
        let from = &small[y / 2 * width * channels..][..width * channels];
        let pixels = large[y * row_len..][..row_len].chunks_exact_mut(2 * channels);
        for (from, pair) in from.chunks_exact(channels).zip(pixels) {
            for to in pair.chunks_exact_mut(channels) {
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{Golden, photo};

    /// Maps of answers beside ONNX Runtime's, whose logits have gone through a sigmoid.
    fn compare_maps(golden: &Golden, case: &str, net: &YuNet, photo: &Photo<'_>) {
        let mut maps = Maps::default();
        let (height, width) = net.answer(photo, &mut maps);
        for (stride, answers) in STRIDES.into_iter().zip(&mut maps.answers) {
            let cells = height / stride * (width / stride);
            let answers = answers.of(cells * ANSWERS);
            for (name, first, len) in [("cls", 0, 1), ("obj", 1, 1), ("bbox", 2, 4), ("kps", 6, 10)] {
                let expected = golden.floats(&format!("{case}.raw.{name}_{stride}"), &[cells, len]);
                for (i, expected) in expected.into_iter().enumerate() {
                    let answer = answers[i / len * ANSWERS + first + i % len];
                    let found = if len == 1 { sigmoid(answer) } else { answer };
                    let error = (found - expected).abs() / expected.abs().max(1.0);
                    assert!(error < 1e-4, "{case} {name}_{stride}[{i}]: expected {expected}, found {found}");
                }
            }
        }
    }

    fn compare_faces(golden: &Golden, case: &str, net: &YuNet, photo: &Photo<'_>, within: f32) {
        let found = net.detect(photo, 0.6, &mut Maps::default());
        let expected = golden.faces(case);
        assert_eq!(found.len(), expected.len() / 15, "{case}");
        for (found, expected) in found.iter().zip(expected.chunks_exact(15)) {
            let Rect { x, y, width, height } = found.bounds;
            let numbers =
                [x, y, width, height].into_iter().chain(found.points.iter().flat_map(|p| [p.x, p.y]));
            for (found, &expected) in numbers.zip(&expected[..14]) {
                assert!((found - expected).abs() < within, "{case}: expected {expected}, found {found}");
            }
            assert!((found.score - expected[14]).abs() < 1e-3, "{case}: score {}", found.score);
        }
    }

    #[test]
    fn the_networks_answer_as_onnx_runtime_does() {
        let Some(golden) = Golden::open() else { return };
        let f32_weights = golden.bytes("faces/yunet_n.safetensors");
        let mut n = YuNet::from_safetensors(&f32_weights).unwrap();
        let small = golden.pixels("astronaut_320.input_rgb");
        let small = Photo::new(320, 320, &small).unwrap();
        let (width, height, montage) = photo("fairface_montage.png");
        let montage = Photo::new(width, height, &montage).unwrap();
        for level in Level::available() {
            n.level = level;
            compare_maps(&golden, "astronaut_320.n", &n, &small);
            compare_maps(&golden, "montage_640.n", &n, &montage);
        }
    }

    #[test]
    fn faces_are_where_opencv_and_onnx_runtime_find_them() {
        let Some(golden) = Golden::open() else { return };
        // The f16 weights of `s` move its boxes by up to 0.06 pixels, those of `n` by less.
        for (name, net, within) in [("n", YuNet::n(), 0.05), ("s", YuNet::s(), 0.1)] {
            for (file, case) in [
                ("astronaut.png", "astronaut_512"),
                ("fairface_montage.png", "montage_640"),
                ("coffee.png", "coffee_600"),
            ] {
                let (width, height, pixels) = photo(file);
                let photo = Photo::new(width, height, &pixels).unwrap();
                compare_faces(&golden, &format!("{case}.{name}"), &net, &photo, within);
            }
        }
    }
}

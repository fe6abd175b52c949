//! What a GPU is asked to do, and the memory that it is asked to do it on.

use std::fmt;

/// Type of activations. Sums, statistics, parameters and gradients are f32 with either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// IEEE single precision.
    F32,
    /// bfloat16: f32's range, eight bits of precision.
    Bf16,
}

impl Element {
    /// Bytes of one.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// `f32` or `bf16`: the end of a kernel's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Device memory that commands name; who runs them says where each begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Buffer {
    /// The program's own: activations, packed filters, statistics of the batch.
    Arena,
    /// Flat parameters (N,) f32.
    Parameters,
    /// Flat running statistics (M,) f32.
    Statistics,
    /// Flat gradient (N,) f32.
    Gradient,
    /// The optimiser's first state vector (N,) f32: AdamW's first moment, SGD's velocity.
    FirstState,
    /// The optimiser's second state vector (N,) f32: AdamW's second moment.
    SecondState,
    /// Moving average of the parameters (N,) f32.
    Average,
    /// [`update::Scalars`](super::update::Scalars): what a step leaves for the host to read.
    Scalars,
    /// Decoded images (B,H,W,3) u8.
    Pixels,
    /// What to do with each image, (B, [`batch::RECIPE_LEN`](super::batch::RECIPE_LEN)) f32.
    Recipes,
    /// Normalised images (B,3,H,W) f32.
    Planes,
}

impl Buffer {
    /// How many there are.
    pub const COUNT: usize = Self::Planes as usize + 1;
    /// All of them, in order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Arena,
        Self::Parameters,
        Self::Statistics,
        Self::Gradient,
        Self::FirstState,
        Self::SecondState,
        Self::Average,
        Self::Scalars,
        Self::Pixels,
        Self::Recipes,
        Self::Planes,
    ];

    /// What errors call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arena => "the arena",
            Self::Parameters => "the parameters",
            Self::Statistics => "the running statistics",
            Self::Gradient => "the gradient",
            Self::FirstState => "the optimiser's first state",
            Self::SecondState => "the optimiser's second state",
            Self::Average => "the average of the parameters",
            Self::Scalars => "the scalars of a step",
            Self::Pixels => "the pixels of a batch",
            Self::Recipes => "the recipes of a batch",
            Self::Planes => "the planes of a batch",
        }
    }
}

/// Bytes of a buffer, from an offset on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BufferPlace {
    /// Which memory.
    pub buffer: Buffer,
    /// The first byte.
    pub offset: usize,
}

impl BufferPlace {
    /// The `index`th f32 of a buffer.
    pub const fn f32s(buffer: Buffer, index: usize) -> Self {
        Self { buffer, offset: 4 * index }
    }
}

/// Device addresses of the buffers; zero for those that no command of a run names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bases([u64; Buffer::COUNT]);

impl Bases {
    /// The same with one more address.
    #[must_use]
    pub const fn with(mut self, buffer: Buffer, address: u64) -> Self {
        self.0[buffer as usize] = address;
        self
    }

    /// The address of a place.
    ///
    /// # Panics
    /// Its buffer has no address.
    pub fn address(&self, place: BufferPlace) -> u64 {
        let base = self.0[place.buffer as usize];
        assert!(base != 0, "no address was given for {:?}", place.buffer);
        base + place.offset as u64
    }
}

/// An argument of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// A pointer.
    At(BufferPlace),
    /// A null pointer.
    Null,
    /// `unsigned`
    U32(u32),
    /// `float`
    F32(f32),
    /// A struct by value, as C lays it out.
    Struct(Vec<u8>),
}

/// Threads of every block, along x: as `BLOCK` in the kernels' sources.
pub const BLOCK: u32 = 256;

/// A kernel over a grid of blocks of [`BLOCK`] threads.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// The kernel's name in the sources.
    pub kernel: String,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Its arguments, in order.
    pub args: Vec<Arg>,
}

impl Launch {
    /// The arguments as the driver takes them: one value each, aligned for its type.
    ///
    /// # Panics
    /// A place's buffer has no address.
    pub fn values(&self, bases: &Bases) -> Vec<Vec<u64>> {
        let value = |arg: &Arg| match arg {
            Arg::At(place) => vec![bases.address(*place)],
            Arg::Null => vec![0],
            Arg::U32(value) => vec![u64::from(*value)],
            Arg::F32(value) => vec![u64::from(value.to_bits())],
            Arg::Struct(bytes) => {
                let word = |chunk: &[u8]| {
                    let mut word = [0; 8];
                    word[..chunk.len()].copy_from_slice(chunk);
                    u64::from_le_bytes(word)
                };
                bytes.chunks(8).map(word).collect()
            }
        };
        self.args.iter().map(value).collect()
    }
}

/// The shapes of a square convolution: x (B,H,W,C), w (K,R,R,C), y (B,P,Q,K).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Images, B.
    pub batch: usize,
    /// Rows of the input, H.
    pub height: usize,
    /// Columns of the input, W.
    pub width: usize,
    /// Channels of the input, C.
    pub inputs: usize,
    /// Filters, K.
    pub outputs: usize,
    /// Rows and columns of a filter, R.
    pub kernel: usize,
    /// Step of the filters in both directions.
    pub stride: usize,
    /// Zeros around the input on all four sides.
    pub padding: usize,
}

impl Geometry {
    /// Rows and columns of the output, P and Q.
    pub const fn output(&self) -> (usize, usize) {
        let margin = 2 * self.padding;
        let rows = (self.height + margin - self.kernel) / self.stride + 1;
        (rows, (self.width + margin - self.kernel) / self.stride + 1)
    }

    /// Elements of the input.
    pub const fn x_len(&self) -> usize {
        self.batch * self.height * self.width * self.inputs
    }

    /// Elements of the filters.
    pub const fn w_len(&self) -> usize {
        self.outputs * self.kernel * self.kernel * self.inputs
    }

    /// Elements of the output.
    pub const fn y_len(&self) -> usize {
        let (rows, columns) = self.output();
        self.batch * rows * columns * self.outputs
    }

    /// Calls `visit(x, w, y)` with the elements of every product of the direct convolution: the definition.
    pub fn products(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let (rows, columns) = self.output();
        let (taps, channels) = (self.kernel * self.kernel, self.inputs);
        for pixel in 0..self.batch * rows * columns {
            let (image, row, column) = (pixel / columns / rows, pixel / columns % rows, pixel % columns);
            for tap in 0..taps {
                let y = row * self.stride + tap / self.kernel;
                let x = column * self.stride + tap % self.kernel;
                let inside = (self.padding..self.padding + self.height).contains(&y)
                    && (self.padding..self.padding + self.width).contains(&x);
                if !inside {
                    continue;
                }
                let from = (image * self.height + y - self.padding) * self.width + x - self.padding;
                for k in 0..self.outputs {
                    for c in 0..channels {
                        visit(from * channels + c, (k * taps + tap) * channels + c, pixel * self.outputs + k);
                    }
                }
            }
        }
    }

    /// Multiply-adds of the direct convolution.
    pub const fn macs(&self) -> usize {
        self.y_len() * self.kernel * self.kernel * self.inputs
    }
}

/// What a convolution computes. Sums are f32; what is stored is the program's element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `y = conv(x, w)`
    Forward,
    /// `y = act(conv(x, w) + bias + residual)`: bias (K,), residual like y.
    Fused {
        /// Whether something is added beside the bias.
        residual: bool,
        /// Whether a ReLU comes last.
        relu: bool,
    },
    /// `x = ` gradient of the input, from y's gradient and w.
    BackwardData,
    /// `w = ` gradient of the filters, from x and y's gradient.
    BackwardFilter,
}

/// A convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Convolve {
    /// Shapes.
    pub geometry: Geometry,
    /// Which of its three tensors is computed, and how.
    pub operation: Operation,
    /// Type of all tensors.
    pub element: Element,
    /// Input, or its gradient.
    pub x: BufferPlace,
    /// Filters, or their gradient.
    pub w: BufferPlace,
    /// Output, or its gradient.
    pub y: BufferPlace,
    /// Of [`Operation::Fused`]: (K,). Of the element, as cuDNN's fused kernels want it.
    pub bias: Option<BufferPlace>,
    /// Of [`Operation::Fused`] with `residual`.
    pub residual: Option<BufferPlace>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A kernel of `gpu/kernels/kernels.cu`.
    Launch(Launch),
    /// A convolution.
    Convolve(Convolve),
}

/// The buffers that commands name, each once.
pub fn buffers_of(commands: &[Command]) -> Vec<Buffer> {
    let mut named = [false; Buffer::COUNT];
    let mut name = |place: &BufferPlace| named[place.buffer as usize] = true;
    for command in commands {
        match command {
            Command::Launch(launch) => launch.args.iter().for_each(|arg| {
                if let Arg::At(place) = arg {
                    name(place);
                }
            }),
            Command::Convolve(Convolve { x, w, y, bias, residual, .. }) => {
                [x, w, y].into_iter().chain(bias).chain(residual).for_each(&mut name);
            }
        }
    }
    Buffer::ALL.into_iter().filter(|&buffer| named[buffer as usize]).collect()
}

/// Bytes that commands read and none writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constants {
    /// Where they belong.
    pub place: BufferPlace,
    /// What they are.
    pub bytes: Vec<u8>,
}

/// What carries commands out, one after the other.
pub trait Machine {
    /// What can go wrong.
    type Error;

    /// Runs a kernel.
    ///
    /// # Errors
    /// The machine refuses it.
    fn launch(&mut self, launch: &Launch) -> Result<(), Self::Error>;

    /// Runs a convolution.
    ///
    /// # Errors
    /// The machine refuses it.
    fn convolve(&mut self, convolve: &Convolve) -> Result<(), Self::Error>;

    /// Runs a list of commands.
    ///
    /// # Errors
    /// The first command that is refused.
    fn run(&mut self, commands: &[Command]) -> Result<(), Self::Error> {
        commands.iter().try_for_each(|command| match command {
            Command::Launch(launch) => self.launch(launch),
            Command::Convolve(convolve) => self.convolve(convolve),
        })
    }
}

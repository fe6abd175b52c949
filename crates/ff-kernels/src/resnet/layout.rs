//! The shape of a backbone and where each of its parameters lies in the flat vectors.

use std::ops::Range;

/// A backbone: 7x7 stem, max-pool, stages of basic blocks, global average pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Channels of the stem.
    pub stem_channels: usize,
    /// The stages; every stage but the first halves the map.
    pub stages: Vec<Stage>,
}

/// One stage of basic blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Output channels.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
}

impl Config {
    /// ResNet-34.
    pub fn resnet34() -> Self {
        let stage = |width, depth| Stage { width, depth };
        Self { stem_channels: 64, stages: vec![stage(64, 3), stage(128, 4), stage(256, 6), stage(512, 3)] }
    }

    /// Length of the embedding.
    pub fn embedding_len(&self) -> usize {
        self.stages.last().map_or(self.stem_channels, |stage| stage.width)
    }
}

/// A named tensor of the flat parameter vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// torchvision's name, e.g. `layer1.0.conv1.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where it starts.
    pub offset: usize,
}

/// A convolution's weights in the flat vector.
#[derive(Clone, Copy, Debug)]
pub struct ConvSlot {
    offset: usize,
    len: usize,
}

impl ConvSlot {
    /// Its range in the flat vector.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len
    }
}

/// A BatchNorm's parameters and running statistics in their flat vectors.
#[derive(Clone, Copy, Debug)]
pub struct BnSlot {
    offset: usize,
    running: usize,
    channels: usize,
}

impl BnSlot {
    /// `gamma` and `beta` of the flat parameters.
    pub fn parameters<'a>(&self, params: &'a [f32]) -> (&'a [f32], &'a [f32]) {
        params[self.offset..self.offset + 2 * self.channels].split_at(self.channels)
    }

    /// As [`Self::parameters`], mutable: for gradients.
    pub fn parameters_mut<'a>(&self, params: &'a mut [f32]) -> (&'a mut [f32], &'a mut [f32]) {
        params[self.offset..self.offset + 2 * self.channels].split_at_mut(self.channels)
    }

    /// `running_mean` and `running_var` of the flat statistics.
    pub fn running<'a>(&self, running: &'a [f32]) -> (&'a [f32], &'a [f32]) {
        running[self.running..self.running + 2 * self.channels].split_at(self.channels)
    }

    /// As [`Self::running`], mutable.
    pub fn running_mut<'a>(&self, running: &'a mut [f32]) -> (&'a mut [f32], &'a mut [f32]) {
        running[self.running..self.running + 2 * self.channels].split_at_mut(self.channels)
    }

    /// Where `gamma` begins in the flat parameters; `beta` follows.
    pub fn parameters_at(&self) -> usize {
        self.offset
    }

    /// Where `running_mean` begins in the flat statistics; `running_var` follows.
    pub fn running_at(&self) -> usize {
        self.running
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.channels
    }
}

/// Where everything lies.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Every parameter, in order.
    pub parameters: Vec<Parameter>,
    /// `bn1.running_mean`, ... in order.
    pub statistics: Vec<Parameter>,
    /// The stem's.
    pub stem: (ConvSlot, BnSlot),
    /// The blocks', in order.
    pub blocks: Vec<BlockLayout>,
}

/// The pieces of one basic block.
#[derive(Clone, Debug)]
pub struct BlockLayout {
    /// `layer1.0`
    pub name: String,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Of the first convolution.
    pub stride: usize,
    /// First convolution and BatchNorm.
    pub first: (ConvSlot, BnSlot),
    /// Second convolution and BatchNorm.
    pub second: (ConvSlot, BnSlot),
    /// The 1x1 branch, where shape changes.
    pub downsample: Option<(ConvSlot, BnSlot)>,
}

impl Layout {
    /// The layout of a backbone.
    pub fn new(config: &Config) -> Self {
        let mut layout = Builder { parameters: Vec::new(), statistics: Vec::new(), offset: 0, running: 0 };
        let stem = (layout.conv("conv1", config.stem_channels, 3, 7), layout.bn("bn1", config.stem_channels));
        let mut blocks = Vec::new();
        let mut inputs = config.stem_channels;
        for (s, stage) in config.stages.iter().enumerate() {
            for b in 0..stage.depth {
                let name = format!("layer{}.{b}", s + 1);
                let (outputs, stride) = (stage.width, if s > 0 && b == 0 { 2 } else { 1 });
                let first = (
                    layout.conv(&format!("{name}.conv1"), outputs, inputs, 3),
                    layout.bn(&format!("{name}.bn1"), outputs),
                );
                let second = (
                    layout.conv(&format!("{name}.conv2"), outputs, outputs, 3),
                    layout.bn(&format!("{name}.bn2"), outputs),
                );
                let downsample = (stride != 1 || inputs != outputs).then(|| {
                    (
                        layout.conv(&format!("{name}.downsample.0"), outputs, inputs, 1),
                        layout.bn(&format!("{name}.downsample.1"), outputs),
                    )
                });
                blocks.push(BlockLayout { name, inputs, outputs, stride, first, second, downsample });
                inputs = outputs;
            }
        }
        Self { parameters: layout.parameters, statistics: layout.statistics, stem, blocks }
    }

    /// Length of the flat parameter vector.
    pub fn parameters_len(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.offset + last.shape.iter().product::<usize>())
    }

    /// Length of the flat vector of running statistics.
    pub fn statistics_len(&self) -> usize {
        self.statistics.last().map_or(0, |last| last.offset + last.shape.iter().product::<usize>())
    }
}

struct Builder {
    parameters: Vec<Parameter>,
    statistics: Vec<Parameter>,
    offset: usize,
    running: usize,
}

impl Builder {
    fn conv(&mut self, name: &str, outputs: usize, inputs: usize, kernel: usize) -> ConvSlot {
        let shape = vec![outputs, inputs, kernel, kernel];
        let slot = ConvSlot { offset: self.offset, len: shape.iter().product() };
        self.parameters.push(Parameter { name: format!("{name}.weight"), shape, offset: self.offset });
        self.offset += slot.len;
        slot
    }

    fn bn(&mut self, name: &str, channels: usize) -> BnSlot {
        let slot = BnSlot { offset: self.offset, running: self.running, channels };
        for part in ["weight", "bias"] {
            let name = format!("{name}.{part}");
            self.parameters.push(Parameter { name, shape: vec![channels], offset: self.offset });
            self.offset += channels;
        }
        for part in ["running_mean", "running_var"] {
            let name = format!("{name}.{part}");
            self.statistics.push(Parameter { name, shape: vec![channels], offset: self.running });
            self.running += channels;
        }
        slot
    }
}

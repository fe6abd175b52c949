//! Every convolution and norm of a backbone by name, and where each of its tensors lies in the flat vectors.

use std::ops::Range;

use super::Config;

/// A backbone, laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// 7x7, stride 2; a 3x3 stride-2 max-pool follows it.
    pub stem: ConvNorm,
    /// The basic blocks in order.
    pub blocks: Vec<BasicBlock>,
    /// Every parameter, in the order of the flat vector.
    pub parameters: Vec<Parameter>,
    /// Every running statistic, in the order of theirs.
    pub statistics: Vec<Parameter>,
}

/// One basic block: `relu(norm2(conv2(relu(norm1(conv1(x))))) + shortcut(x))`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicBlock {
    /// torchvision's name, as `layer2.0`.
    pub name: String,
    /// Its stage, from 1: the number in the name.
    pub stage: usize,
    /// 3x3, with the block's stride.
    pub first: ConvNorm,
    /// 3x3, stride 1.
    pub second: ConvNorm,
    /// 1x1 with the block's stride where the shape changes; otherwise the shortcut is the identity.
    pub downsample: Option<ConvNorm>,
}

/// One convolution (no bias) and the BatchNorm that follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvNorm {
    /// The convolution.
    pub conv: ConvSlot,
    /// The norm.
    pub norm: NormSlot,
}

/// A convolution, and its weights (outputs, inputs, kernel, kernel) in the flat parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvSlot {
    /// torchvision's name, as `layer2.0.conv1`.
    pub name: String,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Where the weights begin.
    pub offset: usize,
}

/// A BatchNorm, its scale and shift in the flat parameters, and its mean and variance in the flat statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormSlot {
    /// torchvision's name, as `layer2.0.bn1`.
    pub name: String,
    /// Channels.
    pub channels: usize,
    /// Where `weight` begins in the parameters; `bias` follows.
    pub offset: usize,
    /// Where `running_mean` begins in the statistics; `running_var` follows.
    pub running: usize,
}

/// A named tensor of a flat vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// torchvision's name, as `layer1.0.conv1.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where it begins.
    pub offset: usize,
    /// What it is for.
    pub role: Role,
    /// Residual blocks between it and the embedding: 0 for the last block, all of them for the stem.
    pub blocks_above: usize,
}

/// What a tensor of the backbone is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Weight of a convolution.
    ConvWeight,
    /// Scale of a norm.
    NormWeight,
    /// Shift of a norm.
    NormBias,
    /// Running mean of a norm.
    RunningMean,
    /// Running variance of a norm.
    RunningVar,
}

impl Layout {
    /// The layout of a backbone.
    pub fn new(config: &Config) -> Self {
        let blocks_above = config.stages.iter().map(|stage| stage.depth).sum();
        let mut vectors = Vectors { blocks_above, ..Vectors::default() };
        let stem = vectors.conv_norm(["conv1", "bn1"], [3, config.stem_channels], 7, 2);
        let mut blocks = Vec::new();
        let mut inputs = config.stem_channels;
        for (stage, &super::Stage { width, depth }) in (1..).zip(&config.stages) {
            for i in 0..depth {
                vectors.blocks_above -= 1;
                let name = format!("layer{stage}.{i}");
                let stride = if stage > 1 && i == 0 { 2 } else { 1 };
                let mut conv_norm = |names: [&str; 2], inputs, kernel, stride| {
                    let [conv, norm] = names.map(|part| format!("{name}.{part}"));
                    vectors.conv_norm([&conv, &norm], [inputs, width], kernel, stride)
                };
                let first = conv_norm(["conv1", "bn1"], inputs, 3, stride);
                let second = conv_norm(["conv2", "bn2"], width, 3, 1);
                let downsample = (stride != 1 || inputs != width)
                    .then(|| conv_norm(["downsample.0", "downsample.1"], inputs, 1, stride));
                blocks.push(BasicBlock { name, stage, first, second, downsample });
                inputs = width;
            }
        }
        Self { stem, blocks, parameters: vectors.parameters, statistics: vectors.statistics }
    }

    /// All convolutions with their norms, in parameter order.
    pub fn conv_norms(&self) -> impl Iterator<Item = &ConvNorm> {
        std::iter::once(&self.stem).chain(self.blocks.iter().flat_map(BasicBlock::conv_norms))
    }

    /// Length of the flat vector of parameters.
    pub fn parameters_len(&self) -> usize {
        end(&self.parameters)
    }

    /// Where the stages begin in the flat vector, from the last one to the first, whose part holds the stem too: the
    /// parts in which a backward pass gives its gradient away.
    pub fn part_begins(&self) -> Vec<usize> {
        let begins = self.blocks.windows(2).filter(|pair| pair[0].stage < pair[1].stage);
        begins.rev().map(|pair| pair[1].first.conv.offset).chain([0]).collect()
    }

    /// Length of the flat vector of running statistics.
    pub fn statistics_len(&self) -> usize {
        end(&self.statistics)
    }
}

impl BasicBlock {
    /// The block's convolutions with their norms, in parameter order.
    pub fn conv_norms(&self) -> impl Iterator<Item = &ConvNorm> {
        [&self.first, &self.second].into_iter().chain(&self.downsample)
    }

    /// Output channels.
    pub fn outputs(&self) -> usize {
        self.second.conv.outputs
    }

    /// The stride of its first convolution.
    pub fn stride(&self) -> usize {
        self.first.conv.stride
    }
}

impl ConvSlot {
    /// Shape of the weights, (outputs, inputs, kernel, kernel).
    pub fn shape(&self) -> [usize; 4] {
        [self.outputs, self.inputs, self.kernel, self.kernel]
    }

    /// The weights' range in the flat parameters.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.shape().iter().product::<usize>()
    }

    /// Zero padding on each side: what keeps the size at stride 1.
    pub fn padding(&self) -> usize {
        self.kernel / 2
    }

    /// Output height or width for an input of `n`.
    pub fn output_size(&self, n: usize) -> usize {
        (n + 2 * self.padding() - self.kernel) / self.stride + 1
    }
}

impl NormSlot {
    /// `weight` and `bias` of the flat parameters.
    pub fn parameters<'a>(&self, parameters: &'a [f32]) -> (&'a [f32], &'a [f32]) {
        parameters[self.offset..self.offset + 2 * self.channels].split_at(self.channels)
    }

    /// As [`Self::parameters`], mutable: for gradients.
    pub fn parameters_mut<'a>(&self, parameters: &'a mut [f32]) -> (&'a mut [f32], &'a mut [f32]) {
        parameters[self.offset..self.offset + 2 * self.channels].split_at_mut(self.channels)
    }

    /// `running_mean` and `running_var` of the flat statistics.
    pub fn running<'a>(&self, statistics: &'a [f32]) -> (&'a [f32], &'a [f32]) {
        statistics[self.running..self.running + 2 * self.channels].split_at(self.channels)
    }

    /// As [`Self::running`], mutable, and of any precision.
    pub fn running_mut<'a, T>(&self, statistics: &'a mut [T]) -> (&'a mut [T], &'a mut [T]) {
        statistics[self.running..self.running + 2 * self.channels].split_at_mut(self.channels)
    }
}

impl Parameter {
    /// Its range in the flat vector.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.shape.iter().product::<usize>()
    }
}

/// The flat vectors as they grow.
#[derive(Default)]
struct Vectors {
    parameters: Vec<Parameter>,
    statistics: Vec<Parameter>,
    /// Residual blocks between what comes next and the embedding.
    blocks_above: usize,
}

impl Vectors {
    fn conv_norm(
        &mut self,
        [conv, norm]: [&str; 2],
        [inputs, outputs]: [usize; 2],
        kernel: usize,
        stride: usize,
    ) -> ConvNorm {
        let offset = end(&self.parameters);
        let conv = ConvSlot { name: conv.to_owned(), inputs, outputs, kernel, stride, offset };
        self.push(&conv.name, "weight", &conv.shape(), Role::ConvWeight);
        let (offset, running) = (end(&self.parameters), end(&self.statistics));
        let norm = NormSlot { name: norm.to_owned(), channels: outputs, offset, running };
        self.push(&norm.name, "weight", &[outputs], Role::NormWeight);
        self.push(&norm.name, "bias", &[outputs], Role::NormBias);
        self.push(&norm.name, "running_mean", &[outputs], Role::RunningMean);
        self.push(&norm.name, "running_var", &[outputs], Role::RunningVar);
        ConvNorm { conv, norm }
    }

    fn push(&mut self, owner: &str, part: &str, shape: &[usize], role: Role) {
        let vector = match role {
            Role::ConvWeight | Role::NormWeight | Role::NormBias => &mut self.parameters,
            Role::RunningMean | Role::RunningVar => &mut self.statistics,
        };
        let (name, shape, offset) = (format!("{owner}.{part}"), shape.to_vec(), end(vector));
        vector.push(Parameter { name, shape, offset, role, blocks_above: self.blocks_above });
    }
}

fn end(vector: &[Parameter]) -> usize {
    vector.last().map_or(0, |last| last.range().end)
}

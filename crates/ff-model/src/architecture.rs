//! ResNet-34's shape as data: which convolutions and norms there are, in which order, under which names.
//!
//! Everything that walks the network (parameter layout, reference, engine, summary) walks this. Names and order are
//! those of torchvision's `resnet34().named_parameters()` without `fc`. He et al., "Deep Residual Learning for Image
//! Recognition", CVPR 2016, table 1.

/// Channels of the embedding that the backbone ends in.
pub const EMBEDDING: usize = 512;
/// Channels after the stem.
pub const STEM_CHANNELS: usize = 64;
/// (number of basic blocks, channels) of `layer1` to `layer4`.
pub const STAGES: [(usize, usize); 4] = [(3, 64), (4, 128), (6, 256), (3, 512)];
/// Height and width below this leave nothing for the last stage.
pub const MIN_IMAGE_SIZE: usize = 32;

/// One convolution (no bias) and the BatchNorm that follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvNorm {
    /// torchvision's name of the convolution, as `layer2.0.conv1`.
    pub conv: String,
    /// torchvision's name of the norm, as `layer2.0.bn1`.
    pub norm: String,
    /// Input channels.
    pub in_channels: usize,
    /// Output channels.
    pub out_channels: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
}

impl ConvNorm {
    /// Zero padding on each side: what keeps the size at stride 1.
    pub fn padding(&self) -> usize {
        self.kernel / 2
    }

    /// Output height or width for an input of `n`.
    pub fn output_size(&self, n: usize) -> usize {
        (n + 2 * self.padding() - self.kernel) / self.stride + 1
    }

    /// Shape of the weight, (out, in, kernel, kernel).
    pub fn weight_shape(&self) -> [usize; 4] {
        [self.out_channels, self.in_channels, self.kernel, self.kernel]
    }
}

/// One basic block: `relu(norm2(conv2(relu(norm1(conv1(x))))) + shortcut(x))`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicBlock {
    /// torchvision's name, as `layer2.0`.
    pub name: String,
    /// 3x3, with the block's stride.
    pub conv1: ConvNorm,
    /// 3x3, stride 1.
    pub conv2: ConvNorm,
    /// 1x1 with the block's stride where the shape changes; otherwise the shortcut is the identity.
    pub downsample: Option<ConvNorm>,
}

impl BasicBlock {
    /// The block's convolutions in parameter order.
    pub fn convs(&self) -> impl Iterator<Item = &ConvNorm> {
        [&self.conv1, &self.conv2].into_iter().chain(&self.downsample)
    }
}

/// The stem: 7x7, stride 2; a 3x3 stride-2 max-pool follows it.
pub fn stem() -> ConvNorm {
    ConvNorm {
        conv: "conv1".into(),
        norm: "bn1".into(),
        in_channels: 3,
        out_channels: STEM_CHANNELS,
        kernel: 7,
        stride: 2,
    }
}

/// The sixteen basic blocks in order.
pub fn blocks() -> Vec<BasicBlock> {
    let mut blocks = Vec::new();
    let mut in_channels = STEM_CHANNELS;
    for (stage, (depth, channels)) in STAGES.into_iter().enumerate() {
        for i in 0..depth {
            let name = format!("layer{}.{i}", stage + 1);
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            let conv = |conv: &str, norm: &str, in_channels, kernel, stride| ConvNorm {
                conv: format!("{name}.{conv}"),
                norm: format!("{name}.{norm}"),
                in_channels,
                out_channels: channels,
                kernel,
                stride,
            };
            let reshapes = stride != 1 || in_channels != channels;
            blocks.push(BasicBlock {
                conv1: conv("conv1", "bn1", in_channels, 3, stride),
                conv2: conv("conv2", "bn2", channels, 3, 1),
                downsample: reshapes.then(|| conv("downsample.0", "downsample.1", in_channels, 1, stride)),
                name,
            });
            in_channels = channels;
        }
    }
    blocks
}

/// All convolutions of the backbone in parameter order.
pub fn convs() -> Vec<ConvNorm> {
    let mut convs = vec![stem()];
    for block in blocks() {
        convs.extend(block.convs().cloned());
    }
    convs
}

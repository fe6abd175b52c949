//! How wide and how deep: all that tells one ResNet of basic blocks from another.

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
    /// ResNet-18.
    pub fn resnet18() -> Self {
        Self::with_depths([2, 2, 2, 2])
    }

    /// ResNet-34.
    pub fn resnet34() -> Self {
        Self::with_depths([3, 4, 6, 3])
    }

    /// The paper's widths with this many blocks a stage.
    fn with_depths(depths: [usize; 4]) -> Self {
        let stages = [64, 128, 256, 512].into_iter().zip(depths);
        Self { stem_channels: 64, stages: stages.map(|(width, depth)| Stage { width, depth }).collect() }
    }

    /// Length of the embedding.
    pub fn embedding_len(&self) -> usize {
        self.stages.last().map_or(self.stem_channels, |stage| stage.width)
    }
}

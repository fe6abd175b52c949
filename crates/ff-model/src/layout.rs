//! Where each named tensor lies in a flat vector.
//!
//! All parameters of the model live in one `(N,)` vector, and all BatchNorm statistics in another, so that
//! optimising, clipping, averaging and saving are each one pass. A [`ParameterLayout`] maps names to ranges and
//! shapes; ranges follow each other without gaps. It holds no values.

use std::collections::HashMap;
use std::ops::Range;

use crate::HeadSpec;
use crate::architecture::{self, ConvNorm, EMBEDDING, STAGES};

/// What a tensor is for: decides its initial value and whether weight decay applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Weight of a convolution, (out, in, kernel, kernel).
    ConvWeight,
    /// Weight of a linear layer, (out, in).
    LinearWeight,
    /// Bias of a linear layer with this many inputs.
    LinearBias {
        /// Inputs of the layer; bounds the initial value.
        fan_in: usize,
    },
    /// Scale of a BatchNorm.
    NormWeight,
    /// Shift of a BatchNorm.
    NormBias,
    /// Running mean of a BatchNorm; not a parameter.
    RunningMean,
    /// Running variance of a BatchNorm; not a parameter.
    RunningVar,
}

impl Role {
    /// Whether weight decay applies by default: to weights, not to norms and biases.
    pub fn decays(self) -> bool {
        matches!(self, Self::ConvWeight | Self::LinearWeight)
    }
}

/// One named tensor of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name in checkpoints, as `backbone.layer1.0.conv1.weight`.
    pub name: String,
    /// Shape of the tensor.
    pub shape: Vec<usize>,
    /// First element in the flat vector.
    pub offset: usize,
    /// What it is for.
    pub role: Role,
}

impl Entry {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Residual blocks between the tensor and the embedding: 0 for the last block, 16 for the stem; `None` outside the
    /// backbone.
    pub fn blocks_above(&self) -> Option<usize> {
        let name = self.name.strip_prefix(BACKBONE_PREFIX)?;
        let blocks = |stages: &[(usize, usize)]| stages.iter().map(|(blocks, _)| blocks).sum::<usize>();
        let block = || {
            let (stage, rest) = name.strip_prefix("layer")?.split_once('.')?;
            let stage: usize = stage.parse().ok()?;
            let block: usize = rest.split_once('.')?.0.parse().ok()?;
            Some(blocks(&STAGES[..stage - 1]) + block + 1)
        };
        Some(blocks(&STAGES) - block().unwrap_or(0))
    }

    /// Its place in the flat vector.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// Prefix of all names that belong to the backbone.
pub const BACKBONE_PREFIX: &str = "backbone.";

/// Name -> place in a flat vector, in the order of the vector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParameterLayout {
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
    len: usize,
}

impl ParameterLayout {
    /// The model's parameters: the backbone in torchvision's order, `shared.0`, then `<task>_head` for each head.
    pub fn parameters(heads: &[HeadSpec]) -> Self {
        let mut layout = Self::default();
        for layer in architecture::convs() {
            let ConvNorm { conv, norm, out_channels, .. } = &layer;
            layout.push(format!("{BACKBONE_PREFIX}{conv}.weight"), &layer.weight_shape(), Role::ConvWeight);
            layout.push(format!("{BACKBONE_PREFIX}{norm}.weight"), &[*out_channels], Role::NormWeight);
            layout.push(format!("{BACKBONE_PREFIX}{norm}.bias"), &[*out_channels], Role::NormBias);
        }
        layout.push_linear("shared.0", EMBEDDING, EMBEDDING);
        for head in heads {
            layout.push_linear(&head.prefix(), EMBEDDING, head.classes);
        }
        layout
    }

    /// The BatchNorm statistics of the backbone: `running_mean`, `running_var` for each norm.
    pub fn statistics() -> Self {
        let mut layout = Self::default();
        for ConvNorm { norm, out_channels, .. } in architecture::convs() {
            layout.push(format!("{BACKBONE_PREFIX}{norm}.running_mean"), &[out_channels], Role::RunningMean);
            layout.push(format!("{BACKBONE_PREFIX}{norm}.running_var"), &[out_channels], Role::RunningVar);
        }
        layout
    }

    fn push_linear(&mut self, name: &str, inputs: usize, outputs: usize) {
        self.push(format!("{name}.weight"), &[outputs, inputs], Role::LinearWeight);
        self.push(format!("{name}.bias"), &[outputs], Role::LinearBias { fan_in: inputs });
    }

    fn push(&mut self, name: String, shape: &[usize], role: Role) {
        let entry = Entry { name: name.clone(), shape: shape.to_vec(), offset: self.len, role };
        self.len += entry.len();
        self.index.insert(name, self.entries.len());
        self.entries.push(entry);
    }

    /// Elements of the flat vector.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The tensors in the order of the flat vector.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.index.get(name).map(|&i| &self.entries[i])
    }

    /// The backbone's part: a prefix of the flat vector.
    pub fn backbone(&self) -> Range<usize> {
        0..self.entries.iter().take_while(|e| e.name.starts_with(BACKBONE_PREFIX)).map(Entry::len).sum()
    }
}

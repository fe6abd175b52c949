//! Where each named tensor lies in a flat vector.
//!
//! All parameters of the model live in one `(N,)` vector, and all BatchNorm statistics in another, so that
//! optimising, clipping, averaging and saving are each one pass. A [`ParameterLayout`] maps names to ranges and
//! shapes; ranges follow each other without gaps. It holds no values.

use std::collections::HashMap;
use std::ops::Range;

use ff_kernels::network;

use crate::{Architecture, HeadSpec};

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

impl From<network::Role> for Role {
    fn from(role: network::Role) -> Self {
        match role {
            network::Role::ConvWeight => Self::ConvWeight,
            network::Role::NormWeight => Self::NormWeight,
            network::Role::NormBias => Self::NormBias,
            network::Role::RunningMean => Self::RunningMean,
            network::Role::RunningVar => Self::RunningVar,
        }
    }
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
    /// Residual blocks between it and the embedding: 0 for the last block, all of them for the stem; `None` outside
    /// the backbone.
    pub blocks_above: Option<usize>,
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
    pub fn parameters(architecture: Architecture, heads: &[HeadSpec]) -> Self {
        let mut layout = Self::of_backbone(architecture.layout().parameters);
        let embedding_len = architecture.embedding_len();
        layout.push_linear("shared.0", embedding_len, embedding_len);
        for head in heads {
            layout.push_linear(&head.prefix(), embedding_len, head.classes);
        }
        layout
    }

    /// The BatchNorm statistics of the backbone: `running_mean`, `running_var` for each norm.
    pub fn statistics(architecture: Architecture) -> Self {
        Self::of_backbone(architecture.layout().statistics)
    }

    /// The backbone's tensors where the engines look for them: from the beginning on, without gaps.
    fn of_backbone(tensors: Vec<network::Parameter>) -> Self {
        let mut layout = Self::default();
        for network::Parameter { name, shape, offset, role, blocks_above } in tensors {
            debug_assert_eq!(offset, layout.len);
            layout.push(format!("{BACKBONE_PREFIX}{name}"), shape, role.into(), Some(blocks_above));
        }
        layout
    }

    fn push_linear(&mut self, name: &str, inputs: usize, outputs: usize) {
        self.push(format!("{name}.weight"), vec![outputs, inputs], Role::LinearWeight, None);
        self.push(format!("{name}.bias"), vec![outputs], Role::LinearBias { fan_in: inputs }, None);
    }

    fn push(&mut self, name: String, shape: Vec<usize>, role: Role, blocks_above: Option<usize>) {
        let entry = Entry { name: name.clone(), shape, offset: self.len, role, blocks_above };
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

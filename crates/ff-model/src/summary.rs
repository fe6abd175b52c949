//! A table of the network's layers: shapes, parameters and multiply-adds for one batch size.
//!
//! Counts are those of the definition (direct convolution); what an engine really multiplies is its own affair.

use ff_kernels::network::{ConvNorm, max_pool_size};
use serde::Serialize;

use crate::images::checked_shape;
use crate::{Architecture, BackboneMode, HeadSpec, Result};

/// One layer or block.
#[derive(Debug, Clone, Serialize)]
pub struct Layer {
    /// Name, as `backbone.layer1.0.conv1`.
    pub name: String,
    /// What it is, as `Conv2d 3x3 s1`.
    pub kind: String,
    /// Dots in the name below the model: 1 for `backbone`, 4 for `backbone.layer1.0.conv1`.
    pub depth: usize,
    /// Shape that goes in.
    pub input: Vec<usize>,
    /// Shape that comes out.
    pub output: Vec<usize>,
    /// Parameters, those of the layers inside included.
    pub params: usize,
    /// Multiply-adds for the batch, those of the layers inside included.
    pub mult_adds: u64,
}

/// The whole table.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// All parameters.
    pub total_params: usize,
    /// Parameters that learn.
    pub trainable_params: usize,
    /// Multiply-adds of one forward pass of the batch.
    pub mult_adds: u64,
    /// Layers in the order of the forward pass; a block stands before the layers inside it.
    pub layers: Vec<Layer>,
}

/// Walks the network for images (B,3,H,W).
///
/// # Errors
/// [`crate::Error::ImageShape`] for images too small for five halvings.
pub fn summarise(
    architecture: Architecture,
    heads: &[HeadSpec],
    mode: BackboneMode,
    [b, h, w]: [usize; 3],
) -> Result<Summary> {
    let images = checked_shape(&[b, 3, h, w])?;
    let mut walk = Walk { layers: Vec::new(), shape: images.to_vec() };
    let (layout, embedding_len) = (architecture.layout(), architecture.embedding_len());
    walk.group("backbone", architecture.title(), |walk| {
        walk.conv_norm("backbone", &layout.stem);
        let [c, h, w] = [walk.shape[1], walk.shape[2], walk.shape[3]];
        walk.leaf("backbone.maxpool", "MaxPool 3x3 s2", &[b, c, max_pool_size(h), max_pool_size(w)], 0, 0);
        for stage in layout.blocks.chunk_by(|a, b| a.stage == b.stage) {
            walk.group(&format!("backbone.layer{}", stage[0].stage), "Stage", |walk| {
                for block in stage {
                    walk.group(&format!("backbone.{}", block.name), "BasicBlock", |walk| {
                        let input = walk.shape.clone();
                        walk.conv_norm("backbone", &block.first);
                        walk.conv_norm("backbone", &block.second);
                        if let Some(downsample) = &block.downsample {
                            walk.shape = input;
                            walk.conv_norm("backbone", downsample);
                        }
                    });
                }
            });
        }
        walk.leaf("backbone.avgpool", "AvgPool", &[b, embedding_len], 0, 0);
    });
    walk.linear("shared.0", embedding_len);
    let z = walk.shape.clone();
    for head in heads {
        walk.shape = z.clone();
        walk.linear(&head.prefix(), head.classes);
    }
    let layers = walk.layers;
    let top = || layers.iter().filter(|l| l.depth == 1);
    let total_params = top().map(|l| l.params).sum();
    let frozen = if mode == BackboneMode::Frozen { layers[0].params } else { 0 };
    Ok(Summary {
        total_params,
        trainable_params: total_params - frozen,
        mult_adds: top().map(|l| l.mult_adds).sum(),
        layers,
    })
}

struct Walk {
    layers: Vec<Layer>,
    /// Shape of the activation at this point.
    shape: Vec<usize>,
}

impl Walk {
    /// A block: its row goes before those that `inside` adds, with their sums.
    fn group(&mut self, name: &str, kind: &str, inside: impl FnOnce(&mut Self)) {
        let row = self.layers.len();
        self.leaf(name, kind, &self.shape.clone(), 0, 0);
        inside(self);
        let depth = self.layers[row].depth + 1;
        let children = self.layers[row + 1..].iter().filter(|l| l.depth == depth);
        let (params, mult_adds) = children.fold((0, 0), |(p, m), l| (p + l.params, m + l.mult_adds));
        let group = &mut self.layers[row];
        (group.output, group.params, group.mult_adds) = (self.shape.clone(), params, mult_adds);
    }

    fn leaf(&mut self, name: &str, kind: &str, output: &[usize], params: usize, mult_adds: u64) {
        let depth = if name == "shared.0" { 1 } else { name.matches('.').count() + 1 };
        let input = std::mem::replace(&mut self.shape, output.to_vec());
        let (name, kind) = (name.to_owned(), kind.to_owned());
        self.layers.push(Layer { name, kind, depth, input, output: output.to_vec(), params, mult_adds });
    }

    fn conv_norm(&mut self, prefix: &str, ConvNorm { conv, norm }: &ConvNorm) {
        let [b, h, w] = [self.shape[0], conv.output_size(self.shape[2]), conv.output_size(self.shape[3])];
        let output = [b, conv.outputs, h, w];
        let params = conv.range().len();
        let kind = format!("Conv2d {k}x{k} s{s}", k = conv.kernel, s = conv.stride);
        // `downsample.0` is as deep as `conv1`: it is one layer of the block.
        let depth = |row: &mut Layer| row.depth -= usize::from(row.name.contains("downsample"));
        self.leaf(&format!("{prefix}.{}", conv.name), &kind, &output, params, (params * b * h * w) as u64);
        depth(self.layers.last_mut().expect("just pushed"));
        self.leaf(&format!("{prefix}.{}", norm.name), "BatchNorm2d", &output, 2 * norm.channels, 0);
        depth(self.layers.last_mut().expect("just pushed"));
    }

    fn linear(&mut self, name: &str, outputs: usize) {
        let [b, inputs] = [self.shape[0], self.shape[1]];
        self.leaf(name, "Linear", &[b, outputs], (inputs + 1) * outputs, (b * inputs * outputs) as u64);
    }
}

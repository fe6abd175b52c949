//! A graph's convolutions and norms under the names of a layout.
//!
//! The graph is walked from the images on, along the layout: which node is which is told by what leads where, never by
//! its name. Every kernel, stride, padding and dilation is held against the layout; shapes and values of the tensors
//! are looked at later, with those of all other files (`fit.rs`).
//!
//! A norm is a `BatchNormalization`, or was folded into the convolution before it: then it is the identity here, with
//! the convolution's bias.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use ff_kernels::image::{IMAGENET_MEAN, IMAGENET_STD};
use ff_kernels::network::{BasicBlock, ConvNorm, ConvSlot, EPS};

use super::graph::{Graph, listed};
use super::message::Node;
use crate::Architecture;

/// `running_var` of a norm that changes nothing: with [`EPS`] added, its root is 1 in f32, and off by 7e-9 before.
pub(super) const IDENTITY_VAR: f32 = (1.0 - EPS) as f32;

/// A backbone that was found in a graph.
pub(super) struct Backbone<'m> {
    pub(super) architecture: Architecture,
    /// By torchvision's names.
    pub(super) tensors: BTreeMap<String, Tensor>,
    /// The value that is the embedding.
    pub(super) embedding: &'m str,
}

impl<'m> Backbone<'m> {
    /// # Errors
    /// The graph is no ResNet-18 or ResNet-34, or its images are prepared in it in a way that is not known here.
    pub(super) fn find(graph: &Graph<'m>) -> Result<Self, String> {
        let n_convolutions = graph.nodes().iter().filter(|node| node.is("Conv")).count();
        let has = |architecture: &Architecture| architecture.layout().conv_norms().count() == n_convolutions;
        let architecture = Architecture::ALL.into_iter().find(has);
        let architecture = architecture.ok_or_else(|| {
            format!(
                "expected the 20 convolutions of a ResNet-18 or the 36 of a ResNet-34, found {n_convolutions}"
            )
        })?;
        let layout = architecture.layout();
        let mut walk = Walk { graph, tensors: BTreeMap::new() };
        let images = normalised_images(graph)?;
        let stem = graph.only(images, "Conv", &layout.stem.conv.name)?;
        let stem = walk.conv_norm(stem, images, &layout.stem)?;
        let stem = graph.only(stem, "Relu", "relu")?;
        let pool = graph.only(stem.output(), "MaxPool", "maxpool")?;
        window(pool, "maxpool", Window { kernel: 3, stride: 2, padding: 1 })?;
        expect(pool, "maxpool", "ceil_mode", pool.integer("ceil_mode")?.unwrap_or(0), 0)?;
        let mut x = pool.output();
        for block in &layout.blocks {
            x = walk.basic_block(block, x)?;
        }
        let embedding = pooled(graph, x)?;
        Ok(Self { architecture, tensors: walk.tensors, embedding })
    }
}

/// The value that the first convolution takes.
///
/// # Errors
/// The graph prepares the images, in another way than files of this crate do.
fn normalised_images<'m>(graph: &Graph<'m>) -> Result<&'m str, String> {
    const FLOATS: [u64; 4] = [1, 10, 11, 16];
    let (images, element) = graph.input()?;
    let [first] = graph.consumers(images) else {
        return Err(format!(
            "the images: expected one convolution, found {}",
            listed(graph.consumers(images))
        ));
    };
    if first.is("Conv") {
        return match FLOATS.contains(&element) {
            true => Ok(images),
            false => Err(format!(
                "the images: expected normalised floats, found data type {element} of onnx.proto"
            )),
        };
    }
    prepared_bytes(graph, first).ok_or_else(|| {
        format!(
            "the images: expected normalised ones, which go into a convolution, found {first}; export the network \
             without what prepares its images"
        )
    })
}

/// The value behind the nodes that `onnx::export` writes for images of bytes; `None` where these are others.
fn prepared_bytes<'m>(graph: &Graph<'m>, transpose: &'m Node<'m>) -> Option<&'m str> {
    let perm = transpose.integers("perm").ok()?;
    if !transpose.is("Transpose") || perm.as_deref() != Some(&[0, 3, 1, 2]) {
        return None;
    }
    let mut x = transpose.output();
    for (operator, values) in [("Sub", IMAGENET_MEAN), ("Div", IMAGENET_STD)] {
        let node = graph.only(x, operator, "").ok()?;
        let constant: Vec<f32> = graph.tensor(node, 1).ok()?.flatten_all().ok()?.to_vec1().ok()?;
        if constant != values.map(|value| 255.0 * value) {
            return None;
        }
        x = node.output();
    }
    Some(x)
}

/// The mean of the last map, flat.
fn pooled<'m>(graph: &Graph<'m>, map: &str) -> Result<&'m str, String> {
    let [pool] = graph.consumers(map) else {
        return Err(format!("avgpool: expected one node, found {}", listed(graph.consumers(map))));
    };
    let is_mean = || {
        let axes = match pool.input(1) {
            Some(axes) => graph.integers(axes)?,
            None => pool.integers("axes")?,
        };
        let axes = axes.unwrap_or_default().into_iter().map(|axis| axis.rem_euclid(4));
        Ok::<_, String>(axes.collect::<std::collections::BTreeSet<_>>() == [2, 3].into())
    };
    if !(pool.is("GlobalAveragePool") || pool.is("ReduceMean") && is_mean()?) {
        return Err(format!("avgpool: expected a mean over height and width, found {pool}"));
    }
    let mut embedding = pool.output();
    // None of them changes the order of 512 values an image.
    while let [node] = graph.consumers(embedding)
        && ["Flatten", "Reshape", "Squeeze"].iter().any(|operator| node.is(operator))
    {
        embedding = node.output();
    }
    Ok(embedding)
}

/// Where the walk is, and what it has found.
struct Walk<'g, 'm> {
    graph: &'g Graph<'m>,
    tensors: BTreeMap<String, Tensor>,
}

impl<'m> Walk<'_, 'm> {
    fn basic_block(&mut self, block: &BasicBlock, x: &'m str) -> Result<&'m str, String> {
        let what = |part: &str| format!("{}.{part}", block.name);
        let graph = self.graph;
        // Of two convolutions, the one before the sum is on the shortcut.
        let consumers = graph.consumers(x);
        let (sums, others): (Vec<&Node>, Vec<&Node>) =
            consumers.iter().copied().partition(|node| node.is("Add") || self.leads_to_sum(node));
        let ([shortcut], [first]) = (&sums[..], &others[..]) else {
            let message = "expected a convolution and a shortcut that ends in a sum";
            return Err(format!("{}: {message}, found {}", block.name, listed(consumers)));
        };
        let y = self.conv_norm(first, x, &block.first)?;
        let relu = graph.only(y, "Relu", &what("relu1"))?;
        let second = graph.only(relu.output(), "Conv", &block.second.conv.name)?;
        let y = self.conv_norm(second, relu.output(), &block.second)?;
        let sum = graph.only(y, "Add", &what("add"))?;
        let shortcut = match &block.downsample {
            Some(layer) => self.conv_norm(shortcut, x, layer)?,
            None => x,
        };
        let mut added: Vec<&str> = sum.inputs.iter().map(|input| graph.root(input)).collect();
        let mut expected = [y, shortcut].map(|value| graph.root(value));
        added.sort_unstable();
        expected.sort_unstable();
        if added != expected {
            return Err(format!(
                "{}: expected the sum of {expected:?}, found {added:?} at {sum}",
                what("add")
            ));
        }
        Ok(graph.only(sum.output(), "Relu", &what("relu2"))?.output())
    }

    /// Whether a convolution, with its norm if there is one, is followed by a sum.
    fn leads_to_sum(&self, convolution: &Node<'m>) -> bool {
        let after = |node: &Node<'m>| match self.graph.consumers(node.output()) {
            [next] => Some(*next),
            _ => None,
        };
        let next = after(convolution);
        let next = next.filter(|node| node.is("BatchNormalization")).and_then(after).or(next);
        convolution.is("Conv") && next.is_some_and(|node| node.is("Add"))
    }

    /// Takes the tensors of a convolution and its norm, and gives the value behind them.
    fn conv_norm(&mut self, node: &'m Node<'m>, x: &'m str, layer: &ConvNorm) -> Result<&'m str, String> {
        let ConvSlot { name, kernel, stride, outputs, .. } = &layer.conv;
        if !node.is("Conv") || !self.graph.reads(node, x) {
            return Err(format!("{name}: expected a Conv of {x:?}, found {node}"));
        }
        window(node, name, Window { kernel: *kernel, stride: *stride, padding: layer.conv.padding() })?;
        expect(node, name, "group", node.integer("group")?.unwrap_or(1), 1)?;
        self.tensors.insert(format!("{name}.weight"), self.graph.tensor(node, 1)?);
        let bias = node.input(2).map(|_| self.graph.vector(node, 2, *outputs)).transpose()?;
        let y = node.output();
        let (norm, y) = match (self.graph.consumers(y), bias) {
            ([norm], bias) if norm.is("BatchNormalization") && self.graph.reads(norm, y) => {
                let parts = self.norm(norm, bias.as_ref())?;
                (parts.map_err(|problem| format!("{norm}: {problem}"))?, norm.output())
            }
            (_, Some(bias)) => (folded(bias).map_err(|problem| format!("{node}: {problem}"))?, y),
            (found, None) => {
                let found = listed(found);
                return Err(format!(
                    "{}: expected BatchNormalization, or a bias of {node} that it was folded into, found {found}",
                    layer.norm.name
                ));
            }
        };
        for (part, tensor) in ["weight", "bias", "running_mean", "running_var"].into_iter().zip(norm) {
            self.tensors.insert(format!("{}.{part}", layer.norm.name), tensor);
        }
        Ok(y)
    }

    /// Weight, bias, mean and variance of a norm behind a convolution with this bias. A file in training mode has the
    /// same ones.
    fn norm(
        &self,
        node: &'m Node<'m>,
        bias: Option<&Tensor>,
    ) -> Result<candle_core::Result<[Tensor; 4]>, String> {
        let [weight, shift, mut mean, mut var] = [
            self.graph.tensor(node, 1)?,
            self.graph.tensor(node, 2)?,
            self.graph.tensor(node, 3)?,
            self.graph.tensor(node, 4)?,
        ];
        let epsilon = node.float("epsilon")?.unwrap_or(EPS as f32);
        Ok((|| {
            if let Some(bias) = bias {
                mean = (mean.to_dtype(DType::F32)? - bias.to_dtype(DType::F32)?)?;
            }
            if epsilon != EPS as f32 {
                var = (var.to_dtype(DType::F64)? + (f64::from(epsilon) - EPS))?.to_dtype(DType::F32)?;
            }
            Ok([weight, shift, mean, var])
        })())
    }
}

/// The norm that changes nothing but adds the bias of the convolution that it was folded into.
fn folded(bias: Tensor) -> candle_core::Result<[Tensor; 4]> {
    let filled = |value: f32| Tensor::full(value, bias.dims(), &Device::Cpu);
    Ok([filled(1.0)?, bias.clone(), filled(0.0)?, filled(IDENTITY_VAR)?])
}

/// Kernel, stride and padding, each the same in both directions.
struct Window {
    kernel: usize,
    stride: usize,
    padding: usize,
}

/// Whether a node goes over the image in this way.
fn window(node: &Node, what: &str, expected: Window) -> Result<(), String> {
    let Window { kernel, stride, padding } = expected;
    // A convolution's weights say its kernel too.
    let kernel_default = if node.is("Conv") { vec![kernel as i64; 2] } else { Vec::new() };
    for (name, default, expected) in [
        ("kernel_shape", kernel_default, vec![kernel as i64; 2]),
        ("strides", vec![1; 2], vec![stride as i64; 2]),
        ("pads", vec![0; 4], vec![padding as i64; 4]),
        ("dilations", vec![1; 2], vec![1; 2]),
    ] {
        expect(node, what, name, node.integers(name)?.unwrap_or(default), expected)?;
    }
    expect(node, what, "auto_pad", node.text("auto_pad")?.unwrap_or("NOTSET"), "NOTSET")
}

fn expect<T: PartialEq + std::fmt::Debug>(
    node: &Node,
    what: &str,
    attribute: &str,
    found: T,
    expected: T,
) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: expected {attribute} {expected:?}, found {found:?} at {node}"))
}

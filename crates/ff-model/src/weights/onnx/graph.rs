//! Who makes a value and who takes it.
//!
//! Nodes that hand on what they get (`Identity`, `Dropout`, casts to a float type) are no nodes here: their outputs are
//! other names of their inputs. Every value is made once, and before it is used, as ONNX asks; so whoever follows
//! values from node to node does not go in circles.

use std::cell::RefCell;
use std::collections::HashMap;

use candle_core::{DType, Tensor};

use super::message::{Model, Node, TensorMessage};

/// Types that a cast may go to, in numbers of `TensorProto.DataType`: f32, f16, f64, bf16.
const FLOATS: [i64; 4] = [1, 10, 11, 16];
/// Nodes that a message lists.
const MAX_LISTED: usize = 3;

/// A graph to walk through.
#[derive(Debug)]
pub(super) struct Graph<'m> {
    model: &'m Model<'m>,
    initializers: HashMap<&'m str, TensorMessage<'m>>,
    /// Every value, and the one that it is another name of, or itself.
    roots: HashMap<&'m str, &'m str>,
    producers: HashMap<&'m str, &'m Node<'m>>,
    consumers: HashMap<&'m str, Vec<&'m Node<'m>>>,
    /// Tensors that were read: however many nodes share one, it takes no more memory than the file.
    read: RefCell<HashMap<&'m str, Tensor>>,
}

impl<'m> Graph<'m> {
    /// # Errors
    /// A value that is made twice, or used before it is made; an operator of quantised networks.
    pub(super) fn new(model: &'m Model<'m>) -> Result<Self, String> {
        let mut graph = Self {
            model,
            initializers: model.initializers.iter().map(|tensor| (tensor.name, *tensor)).collect(),
            roots: HashMap::new(),
            producers: HashMap::new(),
            consumers: HashMap::new(),
            read: RefCell::default(),
        };
        for tensor in &model.initializers {
            graph.define(tensor.name, tensor.name)?;
        }
        for (name, _) in graph.images_and_types() {
            graph.define(name, name)?;
        }
        for node in &model.nodes {
            let quantised = ["Quantize", "QLinear"].iter().any(|part| node.operator.contains(part));
            if quantised || node.operator.ends_with("Integer") {
                return Err(format!("expected a network of floats, found {node}: it is quantised"));
            }
            graph.insert(node)?;
        }
        Ok(graph)
    }

    fn define(&mut self, name: &'m str, root: &'m str) -> Result<(), String> {
        match self.roots.insert(name, root) {
            None => Ok(()),
            Some(_) => Err(format!("{name:?}: expected one value of this name, found two")),
        }
    }

    fn insert(&mut self, node: &'m Node<'m>) -> Result<(), String> {
        let mut inputs = Vec::new();
        for &input in node.inputs.iter().filter(|name| !name.is_empty()) {
            let root = self.roots.get(input);
            let root = root.ok_or_else(|| format!("{node}: {input:?} is used before it is made"))?;
            inputs.push(*root);
        }
        let hands_on = match node.operator {
            "Identity" | "Dropout" | "CastLike" => true,
            "Cast" => node.integer("to")?.is_some_and(|to| FLOATS.contains(&to)),
            _ => false,
        };
        let handed_on = inputs.first().copied().filter(|_| hands_on);
        let outputs = node.outputs.iter().copied().filter(|name| !name.is_empty());
        for (place, output) in outputs.enumerate() {
            match handed_on {
                Some(root) if place == 0 => self.define(output, root)?,
                _ => {
                    self.define(output, output)?;
                    self.producers.insert(output, node);
                }
            }
        }
        // `Shape` takes the size of a value, not the value.
        if handed_on.is_none() && !node.is("Shape") {
            for root in inputs {
                let consumers = self.consumers.entry(root).or_default();
                if !consumers.last().is_some_and(|last| std::ptr::eq(*last, node)) {
                    consumers.push(node);
                }
            }
        }
        Ok(())
    }

    /// Inputs that are no initializers, with the number of their element type. Old files list initializers as inputs
    /// too.
    fn images_and_types(&self) -> Vec<(&'m str, u64)> {
        let inputs = self.model.inputs.iter().copied();
        inputs.filter(|(name, _)| !self.initializers.contains_key(name)).collect()
    }

    /// Name and element type of the one input.
    pub(super) fn input(&self) -> Result<(&'m str, u64), String> {
        match self.images_and_types()[..] {
            [input] => Ok(input),
            ref inputs => Err(format!("expected one input, the images, found {}", inputs.len())),
        }
    }

    /// The value that an output of the graph is another name of; `None` where there is no such output.
    pub(super) fn output(&self, name: &str) -> Option<&'m str> {
        let name = self.model.outputs.iter().find(|output| **output == name)?;
        self.roots.get(name).copied()
    }

    pub(super) fn nodes(&self) -> &'m [Node<'m>] {
        &self.model.nodes
    }

    /// The value that this is another name of.
    pub(super) fn root(&self, name: &'m str) -> &'m str {
        self.roots.get(name).copied().unwrap_or(name)
    }

    /// The nodes that take a value.
    pub(super) fn consumers(&self, value: &str) -> &[&'m Node<'m>] {
        self.consumers.get(self.roots.get(value).copied().unwrap_or(value)).map_or(&[], Vec::as_slice)
    }

    /// Whether this value is what a node computes with: its first input.
    pub(super) fn reads(&self, node: &Node<'m>, value: &'m str) -> bool {
        node.input(0).is_some_and(|input| self.root(input) == self.root(value))
    }

    /// The one node that takes a value, of this operator; `what` it is in the network.
    pub(super) fn only(&self, value: &'m str, operator: &str, what: &str) -> Result<&'m Node<'m>, String> {
        match self.consumers(value) {
            // A sum has no first input.
            [node] if node.is(operator) && (operator == "Add" || self.reads(node, value)) => Ok(node),
            found => Err(format!("{what}: expected {operator}, found {}", listed(found))),
        }
    }

    /// The tensor behind the input at a place of a node: an initializer or a constant.
    pub(super) fn tensor(&self, node: &Node<'m>, place: usize) -> Result<Tensor, String> {
        let name =
            node.input(place).ok_or_else(|| format!("{node}: expected an input {place}, found none"))?;
        let root = self.root(name);
        if let Some(tensor) = self.read.borrow().get(root) {
            return Ok(tensor.clone());
        }
        let constant = match (self.initializers.get(root), self.producers.get(root)) {
            (Some(tensor), _) => Some(*tensor),
            (None, Some(producer)) if producer.is("Constant") => producer.tensor("value")?,
            _ => None,
        };
        let constant = constant.ok_or_else(|| {
            let found = self.producers.get(root).map_or_else(|| "none".to_owned(), ToString::to_string);
            format!("{node}: expected {name:?} to be an initializer or a constant, found {found}")
        })?;
        let tensor = constant.read().map_err(|problem| format!("{name:?}: {problem}"))?;
        self.read.borrow_mut().insert(root, tensor.clone());
        Ok(tensor)
    }

    /// The vector behind an input: as [`Graph::tensor`], or one value expanded to `n`.
    pub(super) fn vector(&self, node: &Node<'m>, place: usize, n: usize) -> Result<Tensor, String> {
        let producer = node.input(place).and_then(|name| self.producers.get(self.root(name)));
        match producer {
            Some(expand) if expand.is("Expand") => {
                let value = self.tensor(expand, 0)?;
                let value = value.reshape(()).and_then(|v| v.to_dtype(DType::F32)?.broadcast_as(n));
                value.map_err(|_| format!("{node}: expected one value, expanded, found more by {expand}"))
            }
            _ => self.tensor(node, place),
        }
    }

    /// The integers of a constant, in whatever shape; `None` where they are computed.
    pub(super) fn integers(&self, name: &'m str) -> Result<Option<Vec<i64>>, String> {
        let mut root = self.root(name);
        loop {
            if let Some(tensor) = self.initializers.get(root) {
                return tensor.integers();
            }
            match self.producers.get(root) {
                Some(node) if node.is("Constant") => {
                    let integer = node.integer("value_int")?.map(|value| vec![value]);
                    return Ok(match (node.tensor("value")?, integer) {
                        (Some(tensor), _) => tensor.integers()?,
                        (None, Some(integer)) => Some(integer),
                        (None, None) => node.integers("value_ints")?,
                    });
                }
                Some(node) if ["Unsqueeze", "Squeeze", "Reshape", "Cast"].iter().any(|op| node.is(op)) => {
                    let Some(input) = node.input(0) else { return Ok(None) };
                    root = self.root(input);
                }
                _ => return Ok(None),
            }
        }
    }
}

/// Nodes as a message says them.
pub(super) fn listed(nodes: &[&Node]) -> String {
    let shown: Vec<String> = nodes.iter().take(MAX_LISTED).map(ToString::to_string).collect();
    match nodes.len() {
        0 => "nothing".to_owned(),
        n if n > MAX_LISTED => format!("{} and {} more", shown.join(", "), n - MAX_LISTED),
        _ => shown.join(", "),
    }
}

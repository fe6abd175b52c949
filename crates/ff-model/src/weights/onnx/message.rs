//! The messages of onnx.proto as far as a network of floats needs them: nodes, their attributes, tensors.
//!
//! A file may come from a stranger. Texts are short and what is listed is counted, so that a list takes no more memory
//! than the limits below; attributes and tensors stay parts of the file until somebody asks for one.

use candle_core::{DType, Device, Tensor};

use super::wire::{Fields, Value};

/// Bytes of a name. Exporters make them of module names: a few dozen.
const MAX_NAME: usize = 1 << 12;
/// Nodes, and initializers. Exporters that leave every constant in the graph write about ten nodes a layer.
const MAX_NODES: usize = 1 << 16;
/// Inputs and outputs of all nodes together.
const MAX_VALUES: usize = 1 << 18;
/// Numbers of an attribute, dimensions of a tensor, elements of one that says a shape.
const MAX_INTEGERS: usize = 64;
/// Entries of the metadata.
const MAX_METADATA: usize = 1 << 10;
/// Bytes of a value of the metadata: a model's labels are at most a thousand a task.
const MAX_METADATA_VALUE: usize = 1 << 24;

/// A `ModelProto`.
#[derive(Debug, Default)]
pub(super) struct Model<'a> {
    pub(super) producer: &'a str,
    pub(super) metadata: Vec<(&'a str, &'a str)>,
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) initializers: Vec<TensorMessage<'a>>,
    /// Name and element type of each input.
    pub(super) inputs: Vec<(&'a str, u64)>,
    pub(super) outputs: Vec<&'a str>,
}

impl<'a> Model<'a> {
    /// Reads a file's bytes.
    ///
    /// # Errors
    /// No protobuf, cut off, beyond the limits, or without a graph.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let mut model = Self::default();
        let mut has_graph = false;
        for field in Fields::of(bytes) {
            match field? {
                (2, value) => model.producer = value.text(MAX_NAME)?,
                (7, value) => {
                    model.read_graph(value.bytes()?).map_err(|problem| format!("graph: {problem}"))?;
                    has_graph = true;
                }
                (14, value) => {
                    within("entries of metadata", model.metadata.len(), MAX_METADATA)?;
                    let entry = entry(value.bytes()?, MAX_METADATA_VALUE);
                    model.metadata.push(entry.map_err(|problem| format!("metadata: {problem}"))?);
                }
                _ => {}
            }
        }
        if has_graph { Ok(model) } else { Err("expected a graph, found none".to_owned()) }
    }

    fn read_graph(&mut self, message: &'a [u8]) -> Result<(), String> {
        let mut n_values = 0;
        for field in Fields::of(message) {
            match field? {
                (1, value) => {
                    within("nodes", self.nodes.len(), MAX_NODES)?;
                    let node = Node::parse(value.bytes()?, &mut n_values)
                        .map_err(|problem| format!("node {}: {problem}", self.nodes.len()))?;
                    self.nodes.push(node);
                }
                (5, value) => {
                    within("initializers", self.initializers.len(), MAX_NODES)?;
                    let tensor = TensorMessage::parse(value.bytes()?)
                        .map_err(|problem| format!("initializer {}: {problem}", self.initializers.len()))?;
                    self.initializers.push(tensor);
                }
                (11, value) => {
                    within("inputs", self.inputs.len(), MAX_NODES)?;
                    self.inputs.push(value_info(value.bytes()?).map_err(|e| format!("inputs: {e}"))?);
                }
                (12, value) => {
                    within("outputs", self.outputs.len(), MAX_NODES)?;
                    let (name, _) = value_info(value.bytes()?).map_err(|e| format!("outputs: {e}"))?;
                    self.outputs.push(name);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn within(what: &str, n: usize, max: usize) -> Result<(), String> {
    if n < max { Ok(()) } else { Err(format!("expected at most {max} {what}, found more")) }
}

/// A `StringStringEntryProto`.
fn entry(message: &[u8], max_value: usize) -> Result<(&str, &str), String> {
    let mut entry = ("", "");
    for field in Fields::of(message) {
        match field? {
            (1, value) => entry.0 = value.text(MAX_NAME)?,
            (2, value) => entry.1 = value.text(max_value)?,
            _ => {}
        }
    }
    Ok(entry)
}

/// Name and element type of a `ValueInfoProto`; 0 where it says none.
fn value_info(message: &[u8]) -> Result<(&str, u64), String> {
    let (mut name, mut element) = ("", 0);
    for field in Fields::of(message) {
        match field? {
            (1, value) => name = value.text(MAX_NAME)?,
            // TypeProto.tensor_type.elem_type
            (2, value) => {
                for field in Fields::of(value.bytes()?) {
                    let (1, value) = field? else { continue };
                    for field in Fields::of(value.bytes()?) {
                        if let (1, value) = field? {
                            element = value.number()?;
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Ok((name, element))
}

/// A `NodeProto`.
#[derive(Debug)]
pub(super) struct Node<'a> {
    name: &'a str,
    pub(super) operator: &'a str,
    domain: &'a str,
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    message: &'a [u8],
}

impl<'a> Node<'a> {
    /// `n_values` counts inputs and outputs of all nodes.
    fn parse(message: &'a [u8], n_values: &mut usize) -> Result<Self, String> {
        let (inputs, outputs) = (Vec::new(), Vec::new());
        let mut node = Self { name: "", operator: "", domain: "", inputs, outputs, message };
        for field in Fields::of(message) {
            match field? {
                (number @ (1 | 2), value) => {
                    within("inputs and outputs of nodes", *n_values, MAX_VALUES)?;
                    *n_values += 1;
                    let values = if number == 1 { &mut node.inputs } else { &mut node.outputs };
                    values.push(value.text(MAX_NAME)?);
                }
                (3, value) => node.name = value.text(MAX_NAME)?,
                (4, value) => node.operator = value.text(MAX_NAME)?,
                (7, value) => node.domain = value.text(MAX_NAME)?,
                _ => {}
            }
        }
        Ok(node)
    }

    /// Whether it is this one of the standard operators.
    pub(super) fn is(&self, operator: &str) -> bool {
        self.operator == operator && matches!(self.domain, "" | "ai.onnx")
    }

    /// Its input at a place, if it has one there.
    pub(super) fn input(&self, place: usize) -> Option<&'a str> {
        self.inputs.get(place).copied().filter(|name| !name.is_empty())
    }

    /// Its first output.
    pub(super) fn output(&self) -> &'a str {
        self.outputs.first().copied().unwrap_or_default()
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, String> {
        self.attribute(name, |attribute| attribute.integer)
    }

    pub(super) fn integers(&self, name: &str) -> Result<Option<Vec<i64>>, String> {
        self.attribute(name, |attribute| Some(attribute.integers))
    }

    pub(super) fn float(&self, name: &str) -> Result<Option<f32>, String> {
        self.attribute(name, |attribute| attribute.float)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, String> {
        self.attribute(name, |attribute| attribute.text)
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Option<TensorMessage<'a>>, String> {
        self.attribute(name, |attribute| attribute.tensor)
    }

    /// What `get` takes of the attribute of this name; `None` where there is none.
    fn attribute<T>(
        &self,
        name: &str,
        get: impl FnOnce(Attribute<'a>) -> Option<T>,
    ) -> Result<Option<T>, String> {
        for field in Fields::of(self.message) {
            let (5, value) = field? else { continue };
            let attribute = Attribute::parse(value.bytes()?, name);
            let found = attribute.map_err(|problem| format!("{self}: {name}: {problem}"))?;
            if let Some(attribute) = found {
                let wrong = || format!("{self}: {name}: expected an attribute of its type, found another");
                return get(attribute).map(Some).ok_or_else(wrong);
            }
        }
        Ok(None)
    }
}

/// As messages name it.
impl std::fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = if self.name.is_empty() { self.output() } else { self.name };
        match self.domain {
            "" | "ai.onnx" => write!(f, "{} (node {name:?})", Escaped(self.operator)),
            domain => write!(f, "{} of {} (node {name:?})", Escaped(self.operator), Escaped(domain)),
        }
    }
}

/// A stranger's text without its control characters.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.escape_debug().fmt(f)
    }
}

/// An `AttributeProto`.
#[derive(Debug, Default)]
struct Attribute<'a> {
    float: Option<f32>,
    integer: Option<i64>,
    text: Option<&'a str>,
    tensor: Option<TensorMessage<'a>>,
    integers: Vec<i64>,
}

impl<'a> Attribute<'a> {
    /// The attribute, if it has this name.
    fn parse(message: &'a [u8], name: &str) -> Result<Option<Self>, String> {
        let mut found = "";
        for field in Fields::of(message) {
            if let (1, value) = field? {
                found = value.text(MAX_NAME)?;
            }
        }
        if found != name {
            return Ok(None);
        }
        let mut attribute = Self::default();
        for field in Fields::of(message) {
            match field? {
                (2, value) => attribute.float = Some(value.float()?),
                (3, value) => attribute.integer = Some(value.number()?.cast_signed()),
                (4, value) => attribute.text = Some(value.text(MAX_NAME)?),
                (5, value) => attribute.tensor = Some(TensorMessage::parse(value.bytes()?)?),
                (8, value) => value.integers(&mut attribute.integers, MAX_INTEGERS)?,
                _ => {}
            }
        }
        Ok(Some(attribute))
    }
}

/// A `TensorProto`, whose values stay in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct TensorMessage<'a> {
    pub(super) name: &'a str,
    message: &'a [u8],
}

/// `TensorProto.DataType` of 64-bit integers.
const INT64: u64 = 7;

impl<'a> TensorMessage<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, String> {
        let mut name = "";
        for field in Fields::of(message) {
            if let (8, value) = field? {
                name = value.text(MAX_NAME)?;
            }
        }
        Ok(Self { name, message })
    }

    /// Its values in their own type.
    ///
    /// # Errors
    /// They lie in another file, are no floats, or are not as many as the shape says.
    pub(super) fn read(&self) -> Result<Tensor, String> {
        let found = self.parts()?;
        let dtype = match found.data_type {
            1 => DType::F32,
            10 => DType::F16,
            11 => DType::F64,
            16 => DType::BF16,
            other => return Err(format!("expected floats, found data type {other} of onnx.proto")),
        };
        let shape: Option<Vec<usize>> = found.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
        let n_bytes = shape
            .as_ref()
            .and_then(|shape| shape.iter().try_fold(dtype.size_in_bytes(), |n, &dim| n.checked_mul(dim)));
        // Packed floats are the same bytes as raw ones.
        let bytes = match (found.raw, found.floats) {
            (Some(raw), _) => raw,
            (None, Some(Value::Bytes(floats))) if dtype == DType::F32 => floats,
            (None, None) if n_bytes == Some(0) => &[],
            _ => return Err("expected values in raw_data, or floats in one piece, found neither".to_owned()),
        };
        match (shape, n_bytes) {
            (Some(shape), Some(n)) if n == bytes.len() => {
                Tensor::from_raw_buffer(bytes, dtype, &shape, &Device::Cpu).map_err(|e| e.to_string())
            }
            _ => Err(format!("expected shape {:?} of {dtype:?}, found {} bytes", found.dims, bytes.len())),
        }
    }

    /// The values of a tensor that says a shape or places; `None` where it is no such tensor.
    pub(super) fn integers(&self) -> Result<Option<Vec<i64>>, String> {
        let found = self.parts()?;
        if found.data_type != INT64 {
            return Ok(None);
        }
        let Some(raw) = found.raw else { return Ok(Some(found.integers)) };
        within("elements", raw.len() / 8, MAX_INTEGERS + 1)?;
        Ok(Some(raw.as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect()))
    }

    fn parts(&self) -> Result<TensorParts<'a>, String> {
        let mut found = TensorParts::default();
        let mut place = None;
        for field in Fields::of(self.message) {
            match field? {
                (1, value) => value.integers(&mut found.dims, MAX_INTEGERS)?,
                (2, value) => found.data_type = value.number()?,
                (4, value) => found.floats = Some(value),
                (7, value) => value.integers(&mut found.integers, MAX_INTEGERS)?,
                (9, value) => found.raw = Some(value.bytes()?),
                (13, value) => {
                    let (key, value) = entry(value.bytes()?, MAX_NAME)?;
                    if key == "location" || place.is_none() {
                        place = Some(value);
                    }
                }
                (14, value) if value.number()? == 1 => place = place.or(Some("")),
                _ => {}
            }
        }
        match place {
            Some(place) => Err(format!(
                "expected values in the file, found them in another one ({place:?}); export with \
                 external_data=False, or save the model as one file"
            )),
            None => Ok(found),
        }
    }
}

/// The fields of a `TensorProto`.
#[derive(Debug, Default)]
struct TensorParts<'a> {
    dims: Vec<i64>,
    data_type: u64,
    floats: Option<Value<'a>>,
    integers: Vec<i64>,
    raw: Option<&'a [u8]>,
}

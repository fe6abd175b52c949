//! The network as an ONNX graph: nodes in the order of the forward pass, initializers under the parameters' names.

use candle_core::Device;
use ff_kernels::image::{IMAGENET_MEAN, IMAGENET_STD};
use ff_kernels::network::{BasicBlock, ConvNorm, EPS};

use super::proto::Message;
use super::{BatchNorm, Input, Options, Output};
use crate::layout::BACKBONE_PREFIX;
use crate::{Parameters, Result, TaskLabels};

/// Name of the open dimension.
const BATCH: &str = "batch";
/// Name of the graph's input.
const IMAGES: &str = "images";

/// A `GraphProto` in the making.
pub(super) struct Graph<'p> {
    parameters: &'p Parameters,
    batch_norm: BatchNorm,
    message: Message,
}

impl<'p> Graph<'p> {
    pub(super) fn build(
        parameters: &'p Parameters,
        tasks: &[TaskLabels],
        options: &Options,
    ) -> Result<Message> {
        let mut graph = Self { parameters, batch_norm: options.batch_norm, message: Message::default() };
        graph.message.text(field::NAME, "fairface");
        let images = graph.input(options.input, options.height, options.width);
        let embedding = graph.backbone(&images)?;
        let projected = graph.linear(&embedding, "shared.0", "shared.0.out")?;
        let z = graph.node("Relu", &[&projected], "shared.1", &[]);
        for task in tasks {
            let prefix = task.head().prefix();
            match options.output {
                Output::Logits => graph.linear(&z, &prefix, task.task.name.as_str())?,
                Output::Probabilities => {
                    let logits = graph.linear(&z, &prefix, &format!("{prefix}.out"))?;
                    graph.node("Softmax", &[&logits], task.task.name.as_str(), &[("axis", Attribute::Int(1))])
                }
            };
            let shape = [Dim::Named(BATCH), Dim::Size(task.labels.len() as u64)];
            let info = value_info(task.task.name.as_str(), ElementType::F32, &shape);
            graph.message.message(field::OUTPUT, &info);
        }
        Ok(graph.message)
    }

    /// Declares the input, and gives the normalised images (batch,3,height,width).
    fn input(&mut self, input: Input, height: usize, width: usize) -> String {
        use Dim::{Named, Size};
        let (height, width) = (Size(height as u64), Size(width as u64));
        let (element, shape) = match input {
            Input::Normalised => (ElementType::F32, [Named(BATCH), Size(3), height, width]),
            Input::Bytes => (ElementType::U8, [Named(BATCH), height, width, Size(3)]),
        };
        self.message.message(field::INPUT, &value_info(IMAGES, element, &shape));
        if input == Input::Normalised {
            return IMAGES.to_owned();
        }
        let to_f32 = [("to", Attribute::Int(ElementType::F32 as u64))];
        let values = self.node("Cast", &[IMAGES], "images.f32", &to_f32);
        let planes = [("perm", Attribute::Ints(vec![0, 3, 1, 2]))];
        let values = self.node("Transpose", &[&values], "images.planes", &planes);
        self.initializer("images.mean", &[1, 3, 1, 1], &IMAGENET_MEAN.map(|m| 255.0 * m));
        self.initializer("images.std", &[1, 3, 1, 1], &IMAGENET_STD.map(|s| 255.0 * s));
        let centred = self.node("Sub", &[&values, "images.mean"], "images.centred", &[]);
        self.node("Div", &[&centred, "images.std"], "images.normalised", &[])
    }

    fn backbone(&mut self, images: &str) -> Result<String> {
        let layout = self.parameters.architecture().layout();
        let stem = self.conv_norm(&layout.stem, images)?;
        let stem = self.node("Relu", &[&stem], "backbone.relu", &[]);
        let window = [
            ("kernel_shape", Attribute::Ints(vec![3; 2])),
            ("strides", Attribute::Ints(vec![2; 2])),
            ("pads", Attribute::Ints(vec![1; 4])),
        ];
        let mut x = self.node("MaxPool", &[&stem], "backbone.maxpool", &window);
        for block in &layout.blocks {
            x = self.basic_block(block, &x)?;
        }
        let pooled = self.node("GlobalAveragePool", &[&x], "backbone.avgpool", &[]);
        Ok(self.node("Flatten", &[&pooled], "embedding", &[("axis", Attribute::Int(1))]))
    }

    fn basic_block(&mut self, block: &BasicBlock, x: &str) -> Result<String> {
        let name = |part: &str| format!("{BACKBONE_PREFIX}{}.{part}", block.name);
        let y = self.conv_norm(&block.first, x)?;
        let y = self.node("Relu", &[&y], &name("relu1"), &[]);
        let y = self.conv_norm(&block.second, &y)?;
        let shortcut = match &block.downsample {
            Some(downsample) => self.conv_norm(downsample, x)?,
            None => x.to_owned(),
        };
        let sum = self.node("Add", &[&y, &shortcut], &name("add"), &[]);
        Ok(self.node("Relu", &[&sum], &name("relu2"), &[]))
    }

    fn conv_norm(&mut self, layer: &ConvNorm, x: &str) -> Result<String> {
        let slot = &layer.conv;
        let (conv, norm) =
            (format!("{BACKBONE_PREFIX}{}", slot.name), format!("{BACKBONE_PREFIX}{}", layer.norm.name));
        let weight_name = format!("{conv}.weight");
        let mut weight = self.values(&weight_name)?;
        let shape = slot.shape();
        let window = [
            ("kernel_shape", Attribute::Ints(vec![slot.kernel as u64; 2])),
            ("strides", Attribute::Ints(vec![slot.stride as u64; 2])),
            ("pads", Attribute::Ints(vec![slot.padding() as u64; 4])),
        ];
        let [gamma, beta, mean, var] = ["weight", "bias", "running_mean", "running_var"];
        match self.batch_norm {
            BatchNorm::Kept => {
                self.initializer(&weight_name, &shape, &weight);
                let y = self.node("Conv", &[x, &weight_name], &format!("{conv}.out"), &window);
                let mut inputs = vec![y];
                for part in [gamma, beta, mean, var] {
                    let name = format!("{norm}.{part}");
                    let values = self.values(&name)?;
                    self.initializer(&name, &[values.len()], &values);
                    inputs.push(name);
                }
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                let epsilon = [("epsilon", Attribute::Float(EPS as f32))];
                Ok(self.node("BatchNormalization", &inputs, &format!("{norm}.out"), &epsilon))
            }
            BatchNorm::Folded => {
                let part = |part: &str| self.values(&format!("{norm}.{part}"));
                let bias = fold(&mut weight, [part(gamma)?, part(beta)?, part(mean)?, part(var)?]);
                let bias_name = format!("{conv}.bias");
                self.initializer(&weight_name, &shape, &weight);
                self.initializer(&bias_name, &[bias.len()], &bias);
                Ok(self.node("Conv", &[x, &weight_name, &bias_name], &format!("{norm}.out"), &window))
            }
        }
    }

    fn linear(&mut self, x: &str, name: &str, output: &str) -> Result<String> {
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
        for tensor in [&weight, &bias] {
            let shape = self.parameters.get(tensor)?.dims().to_vec();
            let values = self.values(tensor)?;
            self.initializer(tensor, &shape, &values);
        }
        Ok(self.node("Gemm", &[x, &weight, &bias], output, &[("transB", Attribute::Int(1))]))
    }

    fn values(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.parameters.get(name)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?)
    }

    /// Adds a node that is named as its output.
    fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[(&str, Attribute)],
    ) -> String {
        let mut node = Message::default();
        inputs.iter().for_each(|input| node.text(1, input));
        node.text(2, output);
        node.text(3, output);
        node.text(4, operator);
        for (name, value) in attributes {
            node.message(5, &value.encode(name));
        }
        self.message.message(field::NODE, &node);
        output.to_owned()
    }

    fn initializer(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let mut tensor = Message::default();
        shape.iter().for_each(|&n| tensor.int(1, n as u64));
        tensor.int(2, ElementType::F32 as u64);
        tensor.text(8, name);
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        tensor.bytes(9, &bytes);
        self.message.message(field::INITIALIZER, &tensor);
    }
}

/// Scales the filters of a convolution as the norm after it would scale their outputs, and gives the bias that is left:
/// `gamma (w x - mean) / sqrt(var + eps) + beta`.
fn fold(weight: &mut [f32], [gamma, beta, mean, var]: [Vec<f32>; 4]) -> Vec<f32> {
    let filter_len = weight.len() / gamma.len();
    let mut bias = Vec::with_capacity(gamma.len());
    for (c, filter) in weight.chunks_exact_mut(filter_len).enumerate() {
        let scale = f64::from(gamma[c]) / (f64::from(var[c]) + EPS).sqrt();
        filter.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
        bias.push((f64::from(beta[c]) - f64::from(mean[c]) * scale) as f32);
    }
    bias
}

/// Fields of `GraphProto` in onnx.proto.
mod field {
    pub(super) const NODE: u32 = 1;
    pub(super) const NAME: u32 = 2;
    pub(super) const INITIALIZER: u32 = 5;
    pub(super) const INPUT: u32 = 11;
    pub(super) const OUTPUT: u32 = 12;
}

/// `TensorProto.DataType`.
#[derive(Debug, Clone, Copy)]
enum ElementType {
    F32 = 1,
    U8 = 2,
}

enum Dim<'a> {
    Size(u64),
    Named(&'a str),
}

/// A `ValueInfoProto` of a tensor.
fn value_info(name: &str, element: ElementType, shape: &[Dim]) -> Message {
    let [mut info, mut kind, mut tensor, mut dims] = std::array::from_fn(|_| Message::default());
    for dim in shape {
        let mut message = Message::default();
        match dim {
            Dim::Size(n) => message.int(1, *n),
            Dim::Named(name) => message.text(2, name),
        }
        dims.message(1, &message);
    }
    tensor.int(1, element as u64);
    tensor.message(2, &dims);
    kind.message(1, &tensor);
    info.text(1, name);
    info.message(2, &kind);
    info
}

/// The value of an `AttributeProto`.
enum Attribute {
    Int(u64),
    Ints(Vec<u64>),
    Float(f32),
}

impl Attribute {
    fn encode(&self, name: &str) -> Message {
        const TYPE: u32 = 20;
        let mut message = Message::default();
        message.text(1, name);
        match self {
            Self::Float(value) => {
                message.float(2, *value);
                message.int(TYPE, 1);
            }
            Self::Int(value) => {
                message.int(3, *value);
                message.int(TYPE, 2);
            }
            Self::Ints(values) => {
                values.iter().for_each(|&value| message.int(8, value));
                message.int(TYPE, 7);
            }
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folded_filter_gives_what_the_norm_would_have_given() {
        let (weight, x) = ([0.5, -1.0, 2.0, 0.25], [3.0, -2.0]); // two 1x1 filters over two channels
        let norm = [vec![2.0, 0.5], vec![0.1, -0.2], vec![1.0, -3.0], vec![4.0, 0.25]];
        let mut folded = weight;
        let bias = fold(&mut folded, norm.clone());
        let [gamma, beta, mean, var] = norm;
        for c in 0..2 {
            let apply = |w: &[f32]| w[2 * c] * x[0] + w[2 * c + 1] * x[1];
            let normed = gamma[c] * (apply(&weight) - mean[c]) / (var[c] + EPS as f32).sqrt() + beta[c];
            assert!((apply(&folded) + bias[c] - normed).abs() < 1e-5, "channel {c}");
        }
    }
}

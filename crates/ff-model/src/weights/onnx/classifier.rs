//! What a graph computes from the embedding, as far as it is known: heads of this project, FairFace's, or the one
//! classifier of another network. What comes after the logits (softmax, the index of the largest) is not looked at.

use candle_core::{Device, Tensor};

use super::graph::{Graph, listed};
use super::message::Node;
use crate::TaskLabels;

/// Where FairFace's 18 logits are cut: race, gender, age.
const CUTS: [(i64, i64); 3] = [(0, 7), (7, 9), (9, 18)];
/// All of them.
const LOGITS: i64 = 18;

/// The heads of a model whose labels are these: projection, then a linear layer a task, whose logits or probabilities
/// are the output of its name. Names as in this project's files.
pub(super) fn own_heads<'m>(
    graph: &Graph<'m>,
    embedding: &'m str,
    tasks: &[TaskLabels],
) -> Result<Vec<(String, Tensor)>, String> {
    let projection = graph.only(embedding, "Gemm", "shared.0")?;
    let projection = Linear::of(graph, projection, embedding)?;
    let z = graph.only(projection.output, "Relu", "shared.1")?.output();
    let mut tensors = projection.named("shared.0");
    for task in tasks {
        let name = task.task.name.as_str();
        let output = graph
            .output(name)
            .ok_or_else(|| format!("{name}: expected an output of this name, found none"))?;
        let of_task = |node: &&&Node<'m>| {
            let logits = node.output();
            let softmax = graph.consumers(logits).iter().find(|node| node.is("Softmax"));
            node.is("Gemm") && (logits == output || softmax.is_some_and(|node| node.output() == output))
        };
        let head = graph.consumers(z).iter().find(of_task).ok_or_else(|| {
            format!("{name}: expected a Gemm that leads to this output, found {}", listed(graph.consumers(z)))
        })?;
        tensors.extend(Linear::of(graph, head, z)?.named(&task.head().prefix()));
    }
    Ok(tensors)
}

/// `fc.weight` and `fc.bias` of one linear layer, or of FairFace's in three; nothing of other classifiers.
pub(super) fn foreign<'m>(graph: &Graph<'m>, embedding: &'m str) -> Result<Vec<(String, Tensor)>, String> {
    let mut layers = Vec::new();
    for node in graph.consumers(embedding) {
        if ["Gemm", "MatMul"].iter().any(|operator| node.is(operator)) {
            layers.push(Linear::of(graph, node, embedding)?);
        }
    }
    let rows: Vec<usize> = layers.iter().map(Linear::rows).collect();
    if let [layer] = &layers[..] {
        if layer.rows() == LOGITS as usize {
            check_cuts(graph, layer.output)?;
        }
        return Ok(layer.named("fc"));
    }
    // Of three layers with as many rows as FairFace has races, genders and ages, it is clear which is which.
    let of_rows = |(begin, end): (i64, i64)| rows.iter().position(|&n| n as i64 == end - begin);
    match CUTS.map(of_rows) {
        [Some(race), Some(gender), Some(age)] if layers.len() == CUTS.len() => {
            let parts = [race, gender, age].map(|i| &layers[i]);
            let joined = |tensors: [&Tensor; 3]| Tensor::cat(&tensors, 0).map_err(|e| format!("fc: {e}"));
            let weight = joined(parts.map(|layer| &layer.weight))?;
            let bias = joined(parts.map(|layer| &layer.bias))?;
            Ok(vec![("fc.weight".to_owned(), weight), ("fc.bias".to_owned(), bias)])
        }
        _ => Ok(Vec::new()),
    }
}

/// A linear layer as PyTorch has it.
struct Linear<'m> {
    /// (rows, inputs)
    weight: Tensor,
    /// (rows,); zeros where the graph has none.
    bias: Tensor,
    output: &'m str,
}

impl<'m> Linear<'m> {
    /// Reads `Gemm`, or `MatMul` and the sum after it.
    fn of(graph: &Graph<'m>, node: &'m Node<'m>, x: &'m str) -> Result<Self, String> {
        let (alpha, beta) = (node.float("alpha")?.unwrap_or(1.0), node.float("beta")?.unwrap_or(1.0));
        let [trans_a, trans_b] = ["transA", "transB"].map(|name| node.integer(name));
        if !graph.reads(node, x) || trans_a?.unwrap_or(0) != 0 || alpha != 1.0 || beta != 1.0 {
            return Err(format!("expected a linear layer x W + b of {x:?}, found another product by {node}"));
        }
        let weight = graph.tensor(node, 1)?;
        let [n, m] = *weight.dims() else {
            return Err(format!("{node}: expected weights of two dimensions, found {:?}", weight.dims()));
        };
        let transposed = trans_b?.unwrap_or(0) == 0;
        let (rows, weight) = match transposed {
            true => (m, weight.t().map_err(|e| format!("{node}: {e}"))?),
            false => (n, weight),
        };
        let (bias, output) = match (node.input(2), graph.consumers(node.output())) {
            (Some(_), _) => (Some(graph.tensor(node, 2)?), node.output()),
            (None, [sum]) if node.is("MatMul") && sum.is("Add") => {
                let place = usize::from(graph.reads(sum, node.output()));
                (Some(graph.tensor(sum, place)?), sum.output())
            }
            _ => (None, node.output()),
        };
        let bias = match bias {
            Some(bias) => bias.flatten_all(),
            None => Tensor::zeros(rows, weight.dtype(), &Device::Cpu),
        };
        Ok(Self { weight, bias: bias.map_err(|e| format!("{node}: {e}"))?, output })
    }

    fn rows(&self) -> usize {
        self.weight.dims()[0]
    }

    fn named(&self, name: &str) -> Vec<(String, Tensor)> {
        vec![(format!("{name}.weight"), self.weight.clone()), (format!("{name}.bias"), self.bias.clone())]
    }
}

/// Whether 18 logits, where they are cut at places that are known, are cut into FairFace's tasks.
fn check_cuts<'m>(graph: &Graph<'m>, logits: &'m str) -> Result<(), String> {
    for node in graph.consumers(logits) {
        let constant = |place: usize, attribute: &str| match node.input(place) {
            Some(name) => graph.integers(name),
            None => node.integers(attribute),
        };
        let found = if node.is("Slice") {
            let (starts, ends) = (constant(1, "starts")?, constant(2, "ends")?);
            let (Some(&[start]), Some(&[end])) = (starts.as_deref(), ends.as_deref()) else { continue };
            let place = |i: i64| if i < 0 { i.saturating_add(LOGITS) } else { i.min(LOGITS) };
            vec![(place(start), place(end))]
        } else if node.is("Split") {
            let Some(sizes) = constant(1, "split")? else { continue };
            let mut end = 0i64;
            let cut = |size| {
                let start = end;
                end = start.saturating_add(size);
                (start, end)
            };
            sizes.into_iter().map(cut).collect()
        } else {
            continue;
        };
        if let Some((start, end)) = found.into_iter().find(|cut| !CUTS.contains(cut)) {
            return Err(format!(
                "expected 18 logits cut into FairFace's races (0 to 7), genders (7 to 9) and ages (9 to 18), found \
                 {start} to {end} by {node}"
            ));
        }
    }
    Ok(())
}

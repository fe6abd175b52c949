//! Projection, heads and their three cross-entropies, plainly: what stands on the backbone when it is trained.

use std::ops::Range;

use safetensors::SafeTensors;

use crate::resnet34::floats;

const TASKS: [&str; 3] = ["age", "gender", "race"];
const WIDTH: usize = 512;

/// `relu(shared.0(embedding))`, then one linear layer a task; all parameters in one vector.
pub struct Heads {
    pub parameters: Vec<f32>,
    pub gradient: Vec<f32>,
    layers: Vec<Linear>,
    targets: Vec<Vec<usize>>,
}

/// Weight (outputs, inputs) and bias in the vector.
struct Linear {
    weight: Range<usize>,
    bias: Range<usize>,
}

impl Heads {
    /// PyTorch's, with the labels of its batch.
    pub fn read(golden: &SafeTensors) -> Self {
        let (mut parameters, mut layers) = (Vec::new(), Vec::new());
        for name in ["shared.0".to_owned()].into_iter().chain(TASKS.map(|task| format!("{task}_head"))) {
            let mut add = |part: &str| {
                let start = parameters.len();
                parameters.extend(floats(golden.tensor(&format!("{name}.{part}")).unwrap().data()));
                start..parameters.len()
            };
            layers.push(Linear { weight: add("weight"), bias: add("bias") });
        }
        let target = |task| {
            let tensor = golden.tensor(&format!("target.{task}")).unwrap();
            let ids = tensor.data().chunks_exact(tensor.data().len() / tensor.shape()[0]);
            ids.map(|id| usize::from(id[0])).collect()
        };
        Self {
            gradient: vec![0.0; parameters.len()],
            parameters,
            layers,
            targets: TASKS.map(target).to_vec(),
        }
    }

    /// The sum of the mean losses of embeddings (B, 512), their gradient, and the heads' own.
    pub fn loss(&mut self, embedding: &[f32]) -> (f32, Vec<f32>) {
        let Self { parameters, gradient, layers, targets } = self;
        gradient.fill(0.0);
        let mut d_embedding = vec![0.0; embedding.len()];
        let (mut loss, n) = (0.0, (embedding.len() / WIDTH) as f32);
        for (i, (x, d_x)) in
            embedding.chunks_exact(WIDTH).zip(d_embedding.chunks_exact_mut(WIDTH)).enumerate()
        {
            let mut hidden = layers[0].forward(parameters, x);
            hidden.iter_mut().for_each(|h| *h = h.max(0.0));
            let mut d_hidden = vec![0.0; WIDTH];
            for (layer, targets) in layers[1..].iter().zip(&*targets) {
                let logits = layer.forward(parameters, &hidden);
                let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let total: f32 = logits.iter().map(|x| (x - most).exp()).sum();
                loss += (total.ln() + most - logits[targets[i]]) / n;
                let mut d_logits: Vec<f32> = logits.iter().map(|x| (x - most).exp() / total / n).collect();
                d_logits[targets[i]] -= 1.0 / n;
                layer.backward(parameters, gradient, &hidden, &d_logits, &mut d_hidden);
            }
            d_hidden.iter_mut().zip(&hidden).for_each(|(d, h)| *d = if *h > 0.0 { *d } else { 0.0 });
            layers[0].backward(parameters, gradient, x, &d_hidden, d_x);
        }
        (loss, d_embedding)
    }
}

impl Linear {
    fn forward(&self, parameters: &[f32], x: &[f32]) -> Vec<f32> {
        let rows = parameters[self.weight.clone()].chunks_exact(x.len()).zip(&parameters[self.bias.clone()]);
        rows.map(|(row, bias)| bias + row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>()).collect()
    }

    /// Adds to the gradient of the parameters and to `d_x`.
    fn backward(&self, parameters: &[f32], gradient: &mut [f32], x: &[f32], d_y: &[f32], d_x: &mut [f32]) {
        for (k, d) in d_y.iter().enumerate() {
            gradient[self.bias.start + k] += d;
            let row = self.weight.start + k * x.len();
            for c in 0..x.len() {
                gradient[row + c] += d * x[c];
                d_x[c] += d * parameters[row + c];
            }
        }
    }
}

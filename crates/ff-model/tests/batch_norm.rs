//! BatchNorm's backward pass against central differences, in f64, and its statistics against the definition.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use candle_core::{Device, Tensor, Var};
use ff_model::reference::{BatchStatistics, batch_norm_eval, batch_norm_train};

const SHAPE: (usize, usize, usize, usize) = (3, 2, 4, 5);

/// Values without structure, the same in every run.
fn scrambled(n: usize, scale: f64) -> Vec<f64> {
    (0..n).map(|i| scale * (((i * 7919 + 13) % 1009) as f64 / 504.5 - 1.0)).collect()
}

fn variables() -> [Var; 3] {
    let n = SHAPE.0 * SHAPE.1 * SHAPE.2 * SHAPE.3;
    [
        Var::from_vec(scrambled(n, 2.0), SHAPE, &Device::Cpu).unwrap(),
        Var::from_vec(vec![0.7, -1.3], 2, &Device::Cpu).unwrap(),
        Var::from_vec(vec![0.2, 0.5], 2, &Device::Cpu).unwrap(),
    ]
}

/// `sum(y * g)` for a fixed g: its gradient is the Jacobian's product with g.
fn objective([x, weight, bias]: [&Tensor; 3]) -> Tensor {
    let (y, _) = batch_norm_train(x, weight, bias).unwrap();
    let g = Tensor::from_vec(scrambled(y.elem_count(), 1.0), SHAPE, &Device::Cpu).unwrap();
    (y * g).unwrap().sum_all().unwrap()
}

#[test]
fn backward_is_the_forwards_derivative() {
    let variables = variables();
    let tensors = || [0, 1, 2].map(|i: usize| variables[i].as_tensor());
    let grads = objective(tensors()).backward().unwrap();
    let step = 1e-5;
    for (which, variable) in variables.iter().enumerate() {
        let analytic = grads.get(variable).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let values = variable.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for i in 0..values.len() {
            let moved = |by: f64| {
                let mut values = values.clone();
                values[i] += by;
                let moved = Tensor::from_vec(values, variable.shape(), &Device::Cpu).unwrap();
                let mut inputs = tensors();
                inputs[which] = &moved;
                objective(inputs).to_scalar::<f64>().unwrap()
            };
            let numeric = (moved(step) - moved(-step)) / (2.0 * step);
            assert!(
                (analytic[i] - numeric).abs() < 1e-6,
                "input {which}, element {i}: {} vs {numeric}",
                analytic[i]
            );
        }
    }
}

#[test]
fn statistics_follow_the_definition() {
    let [x, weight, bias] = variables();
    let (_, BatchStatistics { mean, var }) = batch_norm_train(&x, &weight, &bias).unwrap();
    let channel = x.narrow(1, 1, 1).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let n = channel.len() as f64;
    let expected_mean = channel.iter().sum::<f64>() / n;
    let expected_var = channel.iter().map(|x| (x - expected_mean).powi(2)).sum::<f64>() / (n - 1.0);
    let second = |t: &Tensor| t.to_vec1::<f64>().unwrap()[1];
    assert!((second(&mean) - expected_mean).abs() < 1e-12);
    assert!((second(&var) - expected_var).abs() < 1e-12, "the running variance takes the unbiased one");
}

#[test]
fn evaluation_with_the_batchs_own_statistics_is_training() {
    let [x, weight, bias] = variables();
    let (y, BatchStatistics { mean, var }) = batch_norm_train(&x, &weight, &bias).unwrap();
    let n = (SHAPE.0 * SHAPE.2 * SHAPE.3) as f64;
    let biased = (var * ((n - 1.0) / n)).unwrap();
    let eval = batch_norm_eval(&x, &weight, &bias, &mean, &biased).unwrap();
    let difference = (y - eval).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
    assert!(difference < 1e-12, "{difference}");
}

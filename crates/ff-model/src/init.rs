//! Seeded initial values, as torchvision's ResNet and `torch.nn.Linear` define them.
//!
//! Convolutions: Kaiming normal, fan-out, ReLU gain (He et al. 2015). Norms: scale 1, shift 0, mean 0, variance 1.
//! Linear layers: uniform within 1 / sqrt(inputs), weight and bias. Every tensor draws from a generator of its
//! own, so adding a head changes no other tensor's values.

use ff_core::random::{Generator, Purpose, generator, normal, uniform};

use crate::layout::{Entry, ParameterLayout, Role};

/// The flat vector of initial values for `layout`.
pub fn values(layout: &ParameterLayout, seed: u64) -> Vec<f32> {
    let mut values = Vec::with_capacity(layout.len());
    for (i, entry) in layout.entries().iter().enumerate() {
        append(&mut values, entry, &mut generator(Purpose::Init, seed, 0, i as u64));
    }
    values
}

fn append(values: &mut Vec<f32>, entry: &Entry, rng: &mut Generator) {
    let constant = |value| std::iter::repeat_n(value, entry.len());
    match entry.role {
        Role::ConvWeight => {
            let fan_out = entry.shape[0] * entry.shape[2] * entry.shape[3];
            let std = (2.0 / fan_out as f32).sqrt();
            values.extend((0..entry.len()).map(|_| std * normal(rng) as f32));
        }
        Role::LinearWeight => append_uniform(values, entry, entry.shape[1], rng),
        Role::LinearBias { fan_in } => append_uniform(values, entry, fan_in, rng),
        Role::NormWeight | Role::RunningVar => values.extend(constant(1.0)),
        Role::NormBias | Role::RunningMean => values.extend(constant(0.0)),
    }
}

fn append_uniform(values: &mut Vec<f32>, entry: &Entry, fan_in: usize, rng: &mut Generator) {
    let bound = 1.0 / (fan_in as f32).sqrt();
    values.extend((0..entry.len()).map(|_| uniform(rng, -bound, bound)));
}

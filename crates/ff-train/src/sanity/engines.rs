//! One execution of the network beside another: same weights, same faces, and how far apart they come out.
//!
//! On CUDA the other one is the fast engine on the CPU, in f32; on the CPU it is the reference engine beside the fast
//! one, or the other way round.

use candle_core::Tensor;
use ff_data::{Batch, ImageSize};
use ff_model::{DeviceSpec, Engine, FaceModel, Precision};

use super::{OVERFIT_BATCH, OVERFIT_SIZE, Subject, Verdict, first_batch, no_dropout, on_device};
use crate::Result;
use crate::config::Config;
use crate::loss::multi_task;
use crate::optim::{Optimizer, OptimizerConfig, optimizer_step};
use crate::setup::build_model;

/// Steps that both take.
const STEPS: usize = 10;

/// Two executions of one network.
pub struct Pair<'a> {
    subject: &'a Subject<'a>,
    other: Config,
    allowed: Allowed,
}

/// How far apart they may be.
struct Allowed {
    /// Smallest cosine of the embeddings of a face.
    embedding_cosine: f64,
    /// Largest difference of all embeddings, relative to their length; where rounding is no more than f32's.
    embedding_difference: f64,
    /// Smallest cosine of the gradients.
    gradient_cosine: f64,
    /// Largest relative difference of a step's loss.
    loss: f64,
}

impl Allowed {
    /// Gradients are given more room: rounding decides which of two equal pixels a max-pool takes and which side of
    /// zero a ReLU is on, so that even two f32 engines are 2e-5 from a cosine of 1.
    const fn by(precision: Precision) -> Self {
        let [embedding_cosine, embedding_difference, gradient_cosine, loss] = match precision {
            Precision::Bf16 => [0.999, 0.05, 0.9, 0.03],
            Precision::F32 { tf32: true } => [0.9999, 0.01, 0.99, 0.03],
            Precision::F32 { tf32: false } => [0.999_999, 1e-3, 0.999, 0.02],
        };
        Self { embedding_cosine, embedding_difference, gradient_cosine, loss }
    }
}

impl<'a> Pair<'a> {
    /// What the subject runs on, and what it is compared with.
    pub fn new(subject: &'a Subject<'a>) -> Self {
        let mut other = subject.config.clone();
        let train = &mut other.train;
        let allowed = Allowed::by(train.precision);
        train.engine = match (train.device, train.engine) {
            (DeviceSpec::Cpu, Engine::Fast) => Engine::Reference,
            _ => Engine::Fast,
        };
        train.device = DeviceSpec::Cpu;
        train.precision = Precision::F32 { tf32: false };
        Self { subject, other, allowed }
    }

    /// The embedding of a few faces in evaluation mode.
    pub fn embedding(&self) -> Verdict {
        let batch = &self.subject.batch;
        let [ours, theirs] = self.both(|model| {
            let (images, _) = on_device(batch, model)?;
            values(&model.embed(&images)?)
        })?;
        let width = ours.len() / batch.len();
        let faces = ours.chunks_exact(width).zip(theirs.chunks_exact(width));
        let cosine = faces.map(|(a, b)| cosine(a, b)).fold(f64::INFINITY, f64::min);
        let difference = difference(&ours, &theirs);
        let Allowed { embedding_cosine, embedding_difference, .. } = self.allowed;
        let detail = format!(
            "{}: smallest cosine of {} faces {cosine:.6}, relative difference {difference:.1e}; \
             {embedding_cosine} and {embedding_difference:.0e} are expected",
            self.name(),
            batch.len()
        );
        Ok((cosine >= embedding_cosine && difference <= embedding_difference, detail))
    }

    /// The gradient of the sum of the losses, over all parameters.
    pub fn gradient(&self) -> Verdict {
        let [ours, theirs] = self.both(|model| {
            let (images, targets) = on_device(&self.subject.batch, model)?;
            let pass = model.forward_train(&images, no_dropout(self.subject.config))?;
            let loss = multi_task(&pass.logits, &targets)?.total;
            model.backward(&pass, &loss)?;
            values(model.gradient())
        })?;
        let (cosine, expected) = (cosine(&ours, &theirs), self.allowed.gradient_cosine);
        let detail = format!("{}: cosine {cosine:.6}; {expected} is expected", self.name());
        Ok((cosine >= expected, detail))
    }

    /// The losses of ten steps of AdamW on one batch.
    pub fn ten_steps(&self) -> Verdict {
        let size = ImageSize { height: OVERFIT_SIZE, width: OVERFIT_SIZE };
        let batch = first_batch(self.subject.config, &self.subject.splits, OVERFIT_BATCH, size)?;
        let [ours, theirs] = self.both(|model| losses(model, self.subject.config, &batch))?;
        let apart = ours.iter().zip(&theirs).map(|(a, b)| f64::from((a - b).abs() / b.abs()));
        // NaN is the largest of all.
        let apart = apart.fold(0.0, |most: f64, x| if x > most || x.is_nan() { x } else { most });
        let last = |losses: &[f32]| losses.last().copied().unwrap_or(f32::NAN);
        let detail = format!(
            "{}: loss after {STEPS} steps {:.4} and {:.4}, at most {:.2} % apart; {:.0} % are allowed",
            self.name(),
            last(&ours),
            last(&theirs),
            100.0 * apart,
            100.0 * self.allowed.loss
        );
        Ok((apart <= self.allowed.loss, detail))
    }

    /// `cuda fast bf16 and cpu fast f32`
    fn name(&self) -> String {
        let name = |config: &Config| {
            let train = &config.train;
            format!("{} {} {}", train.device, train.engine.name(), train.precision)
        };
        format!("{} and {}", name(self.subject.config), name(&self.other))
    }

    fn both(&self, compute: impl Fn(&mut FaceModel) -> Result<Vec<f32>>) -> Result<[Vec<f32>; 2]> {
        let encoders = &self.subject.splits.encoders;
        let ours = compute(&mut build_model(self.subject.config, encoders)?)?;
        Ok([ours, compute(&mut build_model(&self.other, encoders)?)?])
    }
}

fn losses(model: &mut FaceModel, config: &Config, batch: &Batch) -> Result<Vec<f32>> {
    let (images, targets) = on_device(batch, model)?;
    let mut optimizer = Optimizer::for_model(OptimizerConfig::default(), model)?;
    let mut losses = Vec::with_capacity(STEPS);
    for _ in 0..STEPS {
        let pass = model.forward_train(&images, no_dropout(config))?;
        let loss = multi_task(&pass.logits, &targets)?.total;
        losses.push(loss.to_scalar()?);
        model.backward(&pass, &loss)?;
        optimizer_step(model, &mut optimizer)?;
    }
    Ok(losses)
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// `|a - b| / |b|`
fn difference(a: &[f32], b: &[f32]) -> f64 {
    let square: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    (square / dot(b, b)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_follow_their_definitions() {
        let (a, b) = ([3.0, 4.0], [4.0, 3.0]);
        assert!((cosine(&a, &b) - 0.96).abs() < 1e-12);
        assert!((difference(&a, &b) - 2f64.sqrt() / 5.0).abs() < 1e-12);
        assert!(cosine(&[f32::NAN, 1.0], &b).is_nan(), "and NaN passes no check");
    }
}

//! Values that a configuration must not have.

use ff_model::{DeviceSpec, Engine, Precision};

use super::{Config, TrainConfig};
use crate::{Error, Result};

/// # Errors
/// A value out of range; the message names the key, what was expected and what was found.
pub fn check(config: &Config) -> Result<()> {
    let Config { data, model, train, optimizer, schedule, loss, run } = config;
    let at_least_one = |key: &str, n: u64| require(n >= 1, key, "at least 1", n);
    at_least_one("data.batch_size", data.batch_size as u64)?;
    at_least_one("data.workers", data.workers as u64)?;
    at_least_one("data.prefetch", data.prefetch as u64)?;
    at_least_one("data.max_file_mib", data.max_file_mib)?;
    at_least_one("data.max_pixels", data.max_pixels)?;
    at_least_one("train.epochs", train.epochs)?;
    at_least_one("train.max_steps", train.max_steps.unwrap_or(1))?;
    at_least_one("train.threads", train.threads as u64)?;
    at_least_one("train.patience", train.patience.unwrap_or(1))?;
    at_least_one("optimizer.accumulate", optimizer.accumulate as u64)?;
    at_least_one("schedule.step_epochs", schedule.step_epochs)?;
    at_least_one("run.keep", run.keep as u64)?;
    at_least_one("run.checkpoint_steps", run.checkpoint_steps.unwrap_or(1))?;
    let in_unit = |key: &str, x: f64| require((0.0..1.0).contains(&x), key, "a number in [0, 1)", x);
    in_unit("model.dropout", model.dropout)?;
    in_unit("optimizer.beta1", optimizer.beta1)?;
    in_unit("optimizer.beta2", optimizer.beta2)?;
    in_unit("optimizer.momentum", optimizer.momentum)?;
    in_unit("optimizer.ema_decay", optimizer.ema_decay.unwrap_or(0.0))?;
    in_unit("loss.effective_beta", loss.effective_beta)?;
    in_unit("loss.label_smoothing", loss.label_smoothing)?;
    let positive = |key: &str, x: f64| require(x > 0.0 && x.is_finite(), key, "a positive number", x);
    positive("optimizer.lr", optimizer.lr)?;
    positive("optimizer.eps", optimizer.eps)?;
    positive("optimizer.clip_norm", optimizer.clip_norm.unwrap_or(1.0))?;
    positive("optimizer.layer_decay", optimizer.layer_decay)?;
    positive("schedule.step_factor", schedule.step_factor)?;
    positive("schedule.peak_at", schedule.peak_at)?;
    require(schedule.peak_at < 1.0, "schedule.peak_at", "less than 1", schedule.peak_at)?;
    let not_negative =
        |key: &str, x: f64| require(x >= 0.0 && x.is_finite(), key, "a number of at least 0", x);
    not_negative("optimizer.weight_decay", optimizer.weight_decay)?;
    not_negative("optimizer.head_lr", optimizer.head_lr)?;
    not_negative("schedule.warmup_epochs", schedule.warmup_epochs)?;
    not_negative("schedule.final_factor", schedule.final_factor)?;
    not_negative("data.mixup", data.mixup)?;
    not_negative("data.cutmix", data.cutmix)?;
    for (task, &weight) in loss.weights.iter() {
        not_negative(&format!("loss.weights.{task}"), weight)?;
    }
    check_precision(train)
}

/// f32 goes everywhere, the others need tensor cores and an engine that uses them.
fn check_precision(train: &TrainConfig) -> Result<()> {
    let expected = match (train.device, train.engine) {
        (DeviceSpec::Cuda(_), Engine::Fast) => return Ok(()),
        (DeviceSpec::Cuda(_), Engine::Reference) => "f32 with the reference engine",
        (DeviceSpec::Cpu, _) => "f32 on the CPU, as bf16 and tf32 need --device cuda",
    };
    let f32 = train.precision == Precision::F32 { tf32: false };
    require(f32, "train.precision", expected, train.precision)
}

fn require(holds: bool, key: &str, expected: &str, found: impl std::fmt::Display) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Config { origin: key.to_owned(), message: format!("expected {expected}, found {found}") })
}

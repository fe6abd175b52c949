//! Values that a configuration must not have.

use std::ops::RangeInclusive;

use ff_core::text;
use ff_model::{DeviceSpec, Engine, Precision};

use super::{Config, Criterion, TrainConfig, ranges};
use crate::{Error, Result};

const MOST_PREFETCH: u64 = 1024;
const MOST_DROPOUT: f64 = 0.999;

/// # Errors
/// A value out of range; the message names the key, what was expected and what was found.
pub fn check(config: &Config) -> Result<()> {
    let Config { tasks, data, model, train, optimizer, schedule, loss, run } = config;
    let within = |key: &str, range: RangeInclusive<u64>, n: u64| {
        require(range.contains(&n), key, &format!("{} to {}", range.start(), range.end()), n)
    };
    let size = data.image_size as u64;
    let fits = ranges::IMAGE_SIZE.contains(&size) && size.is_multiple_of(32);
    require(fits, "data.image_size", "a multiple of 32 from 64 to 512", size)?;
    within("data.batch_size", ranges::BATCH_SIZE, data.batch_size as u64)?;
    within("data.workers", ranges::WORKERS, data.workers as u64)?;
    within("data.prefetch", 1..=MOST_PREFETCH, data.prefetch as u64)?;
    within("data.max_file_mib", ranges::MAX_FILE_MIB, data.max_file_mib)?;
    within("data.max_pixels", ranges::MAX_PIXELS, data.max_pixels)?;
    within("model.freeze_epochs", 0..=*ranges::EPOCHS.end(), model.freeze_epochs)?;
    within("train.epochs", ranges::EPOCHS, train.epochs)?;
    within("train.max_steps", ranges::STEPS, train.max_steps.unwrap_or(1))?;
    within("train.patience", ranges::EPOCHS, train.patience.unwrap_or(1))?;
    within("train.seed", ranges::SEED, train.seed)?;
    within("train.threads", ranges::THREADS, train.threads as u64)?;
    within("optimizer.accumulate", ranges::BATCH_SIZE, optimizer.accumulate as u64)?;
    within("schedule.step_epochs", ranges::EPOCHS, schedule.step_epochs)?;
    within("run.keep", ranges::EPOCHS, run.keep as u64)?;
    within("run.checkpoint_steps", ranges::STEPS, run.checkpoint_steps.unwrap_or(1))?;
    let in_unit = |key: &str, x: f64| require((0.0..1.0).contains(&x), key, "a number in [0, 1)", x);
    in_unit("model.dropout", model.dropout)?;
    // It is computed with in f32, where 1 - 1e-9 is 1: everything would be dropped, and the rest scaled to infinity.
    require(
        model.dropout <= MOST_DROPOUT,
        "model.dropout",
        &format!("at most {MOST_DROPOUT}"),
        model.dropout,
    )?;
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
    require(schedule.step_factor <= 1.0, "schedule.step_factor", "at most 1", schedule.step_factor)?;
    require(schedule.peak_at < 1.0, "schedule.peak_at", "less than 1", schedule.peak_at)?;
    let not_negative =
        |key: &str, x: f64| require(x >= 0.0 && x.is_finite(), key, "a number of at least 0", x);
    not_negative("optimizer.weight_decay", optimizer.weight_decay)?;
    not_negative("optimizer.head_lr", optimizer.head_lr)?;
    not_negative("schedule.warmup_epochs", schedule.warmup_epochs)?;
    let most = *ranges::EPOCHS.end() as f64;
    require(
        schedule.warmup_epochs <= most,
        "schedule.warmup_epochs",
        &format!("at most {most}"),
        schedule.warmup_epochs,
    )?;
    not_negative("schedule.final_factor", schedule.final_factor)?;
    let jitter = data.align_jitter;
    require(ranges::ALIGN_JITTER.contains(&jitter), "data.align_jitter", "a number from 0 to 1", jitter)?;
    let crop = data.resized_crop;
    require(ranges::RESIZED_CROP.contains(&crop), "data.resized_crop", "a number from 0.01 to 1", crop)?;
    let erasing = data.random_erasing;
    require((0.0..=1.0).contains(&erasing), "data.random_erasing", "a number from 0 to 1", erasing)?;
    not_negative("data.mixup", data.mixup)?;
    not_negative("data.cutmix", data.cutmix)?;
    let one_of = |key: &str, name: &str| {
        let names: Vec<String> = tasks.names().map(ToString::to_string).collect();
        let near = text::nearest(name, names.iter().map(String::as_str));
        let hint = near.map_or(String::new(), |near| format!(": did you mean {near}?"));
        let message = format!("expected a task: {}, found {name}{hint}", text::either(&names));
        let known = tasks.task(name).is_ok();
        if known { Ok(()) } else { Err(Error::Config { origin: key.to_owned(), message }) }
    };
    for (task, &weight) in &loss.weights {
        one_of("loss.weights", task)?;
        not_negative(&format!("loss.weights.{task}"), weight)?;
    }
    if let Criterion::Task(task) = &train.criterion {
        one_of("train.criterion", task.as_str())?;
    }
    if let (None, Some(found)) = (&data.decisions, &data.decisions_sha256) {
        return require(false, "data.decisions_sha256", "none without data.decisions", found);
    }
    check_stages(config)?;
    check_distillation(config)?;
    check_groups(config)?;
    check_precision(train)
}

/// What is averaged, and when the heads learn alone.
fn check_stages(config: &Config) -> Result<()> {
    let Config { model, train, optimizer, .. } = config;
    if let Some(rate) = optimizer.frozen_lr {
        require(rate > 0.0 && rate.is_finite(), "optimizer.frozen_lr", "a positive number", rate)?;
        let expected = "none unless model.freeze_epochs is at least 1";
        require(model.freeze_epochs > 0, "optimizer.frozen_lr", expected, rate)?;
    }
    if let Some(first) = optimizer.swa_from {
        require((1..=train.epochs).contains(&first), "optimizer.swa_from", "an epoch of the run", first)?;
        let expected = "none beside optimizer.ema_decay: a run keeps one average";
        require(optimizer.ema_decay.is_none(), "optimizer.swa_from", expected, first)?;
    }
    Ok(())
}

/// What is learnt from other models' answers.
fn check_distillation(config: &Config) -> Result<()> {
    let Config { loss, optimizer, .. } = config;
    let shares = [("loss.distill", loss.distill), ("loss.self_distill", loss.self_distill)];
    for (key, share) in shares {
        require((0.0..=1.0).contains(&share), key, "a number from 0 to 1", share)?;
    }
    let temperature = loss.temperature;
    let positive = temperature > 0.0 && temperature.is_finite();
    require(positive, "loss.temperature", "a positive number", temperature)?;
    let of_average = loss.self_distill;
    let both = of_average + if loss.teacher.is_some() { loss.distill } else { 0.0 };
    require(both <= 1.0, "loss.self_distill", "at most 1 together with loss.distill", of_average)?;
    let expected = "0 without optimizer.ema_decay, which makes the average that is learnt from";
    require(of_average == 0.0 || optimizer.ema_decay.is_some(), "loss.self_distill", expected, of_average)
}

/// What treats groups alike, and where that has no meaning.
fn check_groups(config: &Config) -> Result<()> {
    let Config { data, train, optimizer, loss, .. } = config;
    let within = |key: &str, x: f64| require(x >= 0.0 && x.is_finite(), key, "a number of at least 0", x);
    within("loss.dro_step", loss.dro_step)?;
    within("optimizer.sam_rho", optimizer.sam_rho)?;
    let on_cpu = train.device == DeviceSpec::Cpu;
    require(optimizer.sam_rho == 0.0 || on_cpu, "optimizer.sam_rho", "0 on a GPU", optimizer.sam_rho)?;
    let mixes = data.mixup > 0.0 || data.cutmix > 0.0;
    let dro = !loss.dro.is_empty();
    let columns = || loss.dro.join(", ");
    let expected = "no columns beside data.mixup and data.cutmix, whose images are of two groups";
    require(!(dro && mixes), "loss.dro", expected, columns())?;
    let expected = "no columns beside loss.reweight: both weigh groups";
    require(!dro || loss.reweight.is_empty(), "loss.dro", expected, columns())
}

/// f32 goes everywhere, the others need an engine and a processor that have them.
fn check_precision(train: &TrainConfig) -> Result<()> {
    let expected = match (train.device, train.engine) {
        (DeviceSpec::Cuda(_), Engine::Fast) => return Ok(()),
        (DeviceSpec::Cuda(_), Engine::Reference) => "f32 with the reference engine",
        (DeviceSpec::Cpu, Engine::Reference) => "f32 with the reference engine",
        (DeviceSpec::Cpu, Engine::Fast) if train.precision.runs_on_this_cpu() => return Ok(()),
        (DeviceSpec::Cpu, Engine::Fast) => match train.precision {
            Precision::Bf16 => "f32 on this CPU, which has no AVX-512 BF16",
            Precision::F32 { .. } => "f32 or bf16 on the CPU, as tf32 needs device cuda",
        },
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

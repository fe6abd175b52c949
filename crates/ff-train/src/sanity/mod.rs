//! Trust but verify: named checks that the network learns as it should, on real faces.
//!
//! Each check stands alone and says what it saw. They run on the device and engine of a configuration, from seeded
//! random weights; a frozen backbone fails the gradient checks, and should. The full set compares this execution with
//! another one, and on a GPU every kernel with its twin on the processor.

mod engines;
mod kernels;

use std::sync::Arc;

use candle_core::Tensor;
use engines::Pair;
use ff_core::{PerTask, UNKNOWN, argmax};
use ff_data::{Batch, Dataset, ImageSize, Loader, LoaderConfig, Mode, Splits};
use ff_model::{BackboneMode, DeviceSpec, Dropout, Engine, FaceModel};
use serde::Serialize;

use crate::config::Config;
use crate::learner::Learner;
use crate::loss::{Objective, multi_task};
use crate::optim::schedule::{Schedule, ScheduleConfig};
use crate::optim::{Optimizer, OptimizerConfig, optimizer_step};
use crate::position::Position;
use crate::run::checkpoint::Checkpoint;
use crate::setup::build_model;
use crate::{Error, Result};

/// Faces in the batch of most checks.
const BATCH: usize = 4;
/// The overfitting check looks at more and smaller faces, for speed.
const OVERFIT_BATCH: usize = 8;
const OVERFIT_SIZE: usize = 64;
const OVERFIT_STEPS: usize = 60;

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// That the network learns as it should.
    Usual,
    /// Also that another execution computes the same.
    Full,
}

/// The result of one check.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// Whether it holds.
    pub passed: bool,
    /// What was seen.
    pub detail: String,
}

/// The results of all checks.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether every check holds.
    pub passed: bool,
    /// In the order they ran.
    pub checks: Vec<Check>,
}

/// Whether a check holds, and what it saw.
type Verdict = Result<(bool, String)>;

/// Runs every check; `done` hears each one as it ends. A check that cannot run has failed.
///
/// # Errors
/// Only what comes before the checks: splits, images or device that cannot be used.
pub fn run(config: &Config, depth: Depth, mut done: impl FnMut(&Check)) -> Result<Report> {
    let subject = Subject::new(config)?;
    let pair = Pair::new(&subject);
    let mut checks: Vec<(String, Box<dyn Fn() -> Verdict + '_>)> = vec![
        ("embedding_shape".into(), Box::new(|| subject.embedding_shape())),
        ("logits_shapes".into(), Box::new(|| subject.logits_shapes())),
        ("loss_at_initialisation".into(), Box::new(|| subject.loss_at_initialisation())),
    ];
    for (i, task) in subject.splits.encoders.names().enumerate() {
        let subject = &subject;
        checks.push((format!("gradients_from_{task}_loss"), Box::new(move || subject.gradients_from(i))));
    }
    checks
        .push(("batch_norm_moves_in_training".into(), Box::new(|| subject.batch_norm(BatchNorm::Training))));
    checks.push((
        "batch_norm_stays_in_evaluation".into(),
        Box::new(|| subject.batch_norm(BatchNorm::Evaluation)),
    ));
    checks.push(("overfits_one_batch".into(), Box::new(|| subject.overfits_one_batch())));
    checks.push(("checkpoint_round_trip".into(), Box::new(|| subject.checkpoint_round_trip())));

    if depth == Depth::Full {
        if let (DeviceSpec::Cuda(_), Engine::Fast) = (config.train.device, config.train.engine) {
            let check = || kernels::agree_with_their_twins(&subject.model()?);
            checks.push(("kernels_agree_with_their_twins".into(), Box::new(check)));
        }
        checks.push(("embedding_as_another_engine's".into(), Box::new(|| pair.embedding())));
        checks.push(("gradient_as_another_engine's".into(), Box::new(|| pair.gradient())));
        checks.push(("ten_steps_as_another_engine's".into(), Box::new(|| pair.ten_steps())));
    }

    let mut report = Report { passed: true, checks: Vec::new() };
    for (name, check) in checks {
        let (passed, detail) = check().unwrap_or_else(|e| (false, e.to_string()));
        let check = Check { name, passed, detail };
        done(&check);
        report.passed &= passed;
        report.checks.push(check);
    }
    Ok(report)
}

enum BatchNorm {
    Training,
    Evaluation,
}

/// What is checked, and on which faces.
struct Subject<'a> {
    config: &'a Config,
    splits: Splits,
    batch: Batch,
}

impl<'a> Subject<'a> {
    fn new(config: &'a Config) -> Result<Self> {
        let splits = config.read_splits()?;
        let batch = first_batch(config, &splits, BATCH, ImageSize::DEFAULT)?;
        config.train.device.open()?;
        Ok(Self { config, splits, batch })
    }

    fn model(&self) -> Result<FaceModel> {
        build_model(self.config, &self.splits.encoders)
    }

    fn embedding_shape(&self) -> Verdict {
        let mut model = self.model()?;
        let (images, _) = on_device(&self.batch, &model)?;
        let embedding = model.embed(&images)?;
        Ok((embedding.dims() == [BATCH, 512], format!("{:?} -> {:?}", images.dims(), embedding.dims())))
    }

    fn logits_shapes(&self) -> Verdict {
        let mut model = self.model()?;
        let (images, _) = on_device(&self.batch, &model)?;
        let logits = model.predict(&images)?.logits;
        let expected: Vec<_> = model.heads().iter().map(|head| vec![BATCH, head.classes]).collect();
        let found: Vec<_> = logits.iter().map(|l| l.dims().to_vec()).collect();
        Ok((found == expected, format!("expected {expected:?}, found {found:?}")))
    }

    fn loss_at_initialisation(&self) -> Verdict {
        let mut model = self.model()?;
        let (images, targets) = on_device(&self.batch, &model)?;
        let pass = model.forward_train(&images, no_dropout(self.config))?;
        let loss = f64::from(multi_task(&pass.logits, &targets)?.total.to_scalar::<f32>()?);
        let chance: f64 = model.heads().iter().map(|head| (head.classes as f64).ln()).sum();
        let detail = format!("loss {loss:.3}, guessing gives {chance:.3}; within 0.5 is expected");
        Ok(((loss - chance).abs() < 0.5, detail))
    }

    /// Every parameter of the backbone gets a finite gradient, not all zero, from one task's loss alone.
    fn gradients_from(&self, task: usize) -> Verdict {
        let mut model = self.model()?;
        let (images, targets) = on_device(&self.batch, &model)?;
        let pass = model.forward_train(&images, no_dropout(self.config))?;
        let loss = multi_task(&pass.logits, &targets)?.tasks.swap_remove(task);
        model.backward(&pass, &loss)?;
        let end = model.parameters().layout().backbone().end;
        let (mut dead, mut broken, mut total) = (Vec::new(), Vec::new(), 0);
        for entry in model.parameters().layout().entries().iter().take_while(|e| e.offset < end) {
            total += 1;
            let gradient = model.gradient_of(&entry.name)?.flatten_all()?.to_vec1::<f32>()?;
            if gradient.iter().any(|g| !g.is_finite()) {
                broken.push(entry.name.as_str());
            } else if gradient.iter().all(|&g| g == 0.0) {
                dead.push(entry.name.as_str());
            }
        }
        let alive = total - dead.len() - broken.len();
        let mut detail =
            format!("{alive} of {total} backbone parameters have a finite gradient that is not all zero");
        for (what, names) in [("all zero", dead), ("not finite", broken)] {
            if let Some(first) = names.first() {
                detail += &format!("; {what}: {first} and {} more", names.len() - 1);
            }
        }
        Ok((alive == total, detail))
    }

    fn batch_norm(&self, mode: BatchNorm) -> Verdict {
        let mut model = self.model()?;
        // A frozen backbone's statistics stay by design; this is about the others.
        model.set_backbone_mode(BackboneMode::Trainable);
        let (images, _) = on_device(&self.batch, &model)?;
        let before = model.parameters().statistics().to_vec1::<f32>()?;
        match mode {
            BatchNorm::Training => drop(model.forward_train(&images, no_dropout(self.config))?),
            BatchNorm::Evaluation => drop(model.predict(&images)?),
        }
        let after = model.parameters().statistics().to_vec1::<f32>()?;
        let layout = model.parameters().statistics_layout();
        let moved = layout.entries().iter().filter(|e| before[e.range()] != after[e.range()]).count();
        let total = layout.entries().len();
        let expected = if matches!(mode, BatchNorm::Training) { total } else { 0 };
        Ok((moved == expected, format!("{moved} of {total} running statistics moved, expected {expected}")))
    }

    /// AdamW drives the loss on a few faces below a tenth of where it began, every face right.
    fn overfits_one_batch(&self) -> Verdict {
        let size = ImageSize { height: OVERFIT_SIZE, width: OVERFIT_SIZE };
        let batch = first_batch(self.config, &self.splits, OVERFIT_BATCH, size)?;
        let mut model = self.model()?;
        let (images, targets) = on_device(&batch, &model)?;
        let config = OptimizerConfig { lr: 1e-3, ..OptimizerConfig::default() };
        let mut optimizer = Optimizer::for_model(config, &model)?;
        let (mut first, mut last) = (f32::NAN, f32::NAN);
        for step in 1..=OVERFIT_STEPS {
            let pass = model.forward_train(&images, no_dropout(self.config))?;
            let loss = multi_task(&pass.logits, &targets)?.total;
            last = loss.to_scalar::<f32>()?;
            if step == 1 {
                first = last;
            }
            let wrong = n_wrong(&pass.logits, &batch.targets)?;
            if last < 0.1 * first && wrong == 0 {
                return Ok((
                    true,
                    format!("loss {first:.3} -> {last:.3} in {step} steps, every label right"),
                ));
            }
            model.backward(&pass, &loss)?;
            optimizer_step(&mut model, &mut optimizer)?;
        }
        Ok((
            false,
            format!("loss {first:.3} -> {last:.3} in {OVERFIT_STEPS} steps; below a tenth is expected"),
        ))
    }

    /// A checkpoint, read into a model of another seed, gives the same bits.
    fn checkpoint_round_trip(&self) -> Verdict {
        let encoders = &self.splits.encoders;
        let counts = encoders.n_classes().map(|classes| vec![1; classes]);
        let model = self.model()?;
        let objective = Objective::new(&self.config.loss, encoders, &counts, model.device())?;
        let schedule = Schedule::new(ScheduleConfig::default(), 1, 1);
        let mut learner = Learner::new(self.config, model, objective, schedule)?;
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("checkpoint");
        Checkpoint::write(&path, &mut learner, Position::default(), encoders, "")?;
        let mut other_config = self.config.clone();
        other_config.train.seed = other_config.train.seed.wrapping_add(1);
        let mut other = build_model(&other_config, &self.splits.encoders)?;
        Checkpoint::open(&path)?.load_model(&mut other)?;
        let bits = |model: &mut FaceModel| -> Result<Vec<f32>> {
            let (images, _) = on_device(&self.batch, model)?;
            let logits = model.predict(&images)?.logits;
            let rows =
                logits.iter().map(|l| Ok(l.flatten_all()?.to_vec1::<f32>()?)).collect::<Result<Vec<_>>>()?;
            Ok(rows.concat())
        };
        let (saved, loaded) = (bits(&mut learner.model)?, bits(&mut other)?);
        let equal = saved.iter().zip(&loaded).filter(|(a, b)| a.to_bits() == b.to_bits()).count();
        Ok((equal == saved.len(), format!("{equal} of {} logits have the same bits", saved.len())))
    }
}

/// The first faces of the training split, unaugmented.
fn first_batch(config: &Config, splits: &Splits, n: usize, size: ImageSize) -> Result<Batch> {
    let dataset = Dataset::open(splits.train.clone(), &config.data.images, &splits.encoders, Mode::Eval)?;
    let dataset = dataset.with_rules(config.data.rules());
    let mut loader = Loader::new(Arc::new(dataset.with_size(size)), LoaderConfig::eval(n).with_prefetch(1))?;
    let batch = loader.epoch(0, 0).next();
    let batch =
        batch.ok_or_else(|| Error::Config { origin: "data.splits".into(), message: "no rows".into() })??;
    Ok(batch)
}

fn no_dropout(config: &Config) -> Dropout {
    Dropout { rate: 0.0, seed: config.train.seed, step: 1 }
}

/// A batch's planes (B,3,H,W) and class ids (B,) a task, where the model computes. Each model has a stream of its own.
fn on_device(batch: &Batch, model: &FaceModel) -> Result<(Tensor, Vec<Tensor>)> {
    let device = model.device();
    let images = Tensor::from_slice(batch.planes(), &batch.shape, device)?;
    let targets = batch.targets.values().map(|ids| Ok(Tensor::new(ids.as_slice(), device)?));
    Ok((images, targets.collect::<Result<_>>()?))
}

fn n_wrong(logits: &[Tensor], targets: &PerTask<Vec<u32>>) -> Result<usize> {
    let mut wrong = 0;
    for (logits, targets) in logits.iter().zip(targets.values()) {
        let rows = logits.to_vec2::<f32>()?;
        let known = rows.iter().zip(targets).filter(|(_, target)| **target != UNKNOWN);
        wrong += known.filter(|(row, target)| argmax(row) != Some(**target as usize)).count();
    }
    Ok(wrong)
}

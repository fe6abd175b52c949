//! From a configuration to all that the first step needs, on every rank.
//!
//! Each rank opens data and model for itself. The first alone has to do with the run's folder and with initial weights,
//! and gives the others what it found there. What one of them cannot do, none does.

use ff_core::Encoders;
use ff_core::files::{link_dir, sha256};
use ff_data::Splits;
use ff_kernels::Level;
use ff_model::DeviceSpec;

use super::Start;
use super::resume::{Change, Resumed, settings};
use crate::config::Config;
use crate::feed::Feeder;
use crate::learner::{Learner, Length};
use crate::machine::Machine;
use crate::position::Position;
use crate::ranks::{Ranks, ReduceDtype, check_alike, from_first, together};
use crate::run::checkpoint::Checkpoint;
use crate::run::{CheckpointName, DataRecord, InitRecord, Lock, RunDir};
use crate::weights::{self, Init};
use crate::{Error, Result, setup, teacher};

/// A run that is ready for its next step.
pub struct Prepared {
    pub train: Feeder,
    pub val: Feeder,
    pub learner: Learner,
    pub folder: Folder,
    pub encoders: Encoders,
    /// SHA-256 of the training split.
    pub train_split: String,
    pub length: Length,
    pub machine: Machine,
    pub position: Position,
}

/// What the first rank has of a run's folder; the others know where it is.
pub struct Folder {
    pub run_dir: RunDir,
    pub lock: Option<Lock>,
    pub init: Option<Init>,
    pub changes: Vec<Change>,
}

/// Data and model, before anything is in the model.
struct Opened {
    train: Feeder,
    val: Feeder,
    learner: Learner,
    encoders: Encoders,
    train_split: String,
    data: DataRecord,
    length: Length,
    machine: Machine,
}

/// Settings that change neither data nor arithmetic: ranks may differ in them.
const OF_A_MACHINE: [&str; 8] = [
    "data.splits",
    "data.images",
    "data.decisions",
    "data.workers",
    "data.prefetch",
    "data.cache",
    "data.cache_dir",
    "loss.teacher",
];

impl Prepared {
    pub fn new(ranks: &mut dyn Ranks, config: &Config, start: &Start) -> Result<Self> {
        check_shares(ranks, config)?;
        // What can be refused at once is, before anything is read or made.
        let first = ranks.rank() == 0;
        let resumed = if first { resumed(config, start, ranks.size()) } else { Ok(None) };
        let resumed = together(ranks, resumed)?;
        let position = resumed.as_ref().map_or(Position::default(), |resumed| resumed.state.position);
        let position = from_first(ranks, Some(position))?;
        let opened = Opened::new(&with_own_gpu(ranks, config), &position, first);
        let mut opened = together(ranks, opened)?;
        if ranks.size() > 1 {
            check_alike(ranks, &opened.facts(config))?;
        }
        let folder = match first {
            true => folder(config, resumed, &mut opened, position, ranks.size()).map(Some),
            false => Ok(None),
        };
        let folder = together(ranks, folder)?;
        let told = folder.as_ref().map(|(folder, position)| (folder.run_dir.path().to_owned(), *position));
        let (path, position) = from_first(ranks, told)?;
        let folder = match folder {
            Some((folder, _)) => folder,
            None => Folder { run_dir: RunDir::at(path), lock: None, init: None, changes: Vec::new() },
        };
        opened.learner.share(ranks)?;
        let Opened { train, val, learner, encoders, train_split, length, machine, .. } = opened;
        Ok(Self { train, val, learner, folder, encoders, train_split, length, machine, position })
    }
}

/// Whether steps can be shared.
fn check_shares(ranks: &dyn Ranks, config: &Config) -> Result<()> {
    let (size, accumulate) = (ranks.size(), config.optimizer.accumulate);
    let bad = |origin: &str, message| Err(Error::Config { origin: origin.to_owned(), message });
    if !accumulate.is_multiple_of(size) {
        let message =
            format!("expected a multiple of the {size} ranks that share a step, found {accumulate}");
        return bad("optimizer.accumulate", message);
    }
    if size == 1 && config.train.reduce_dtype != ReduceDtype::F32 {
        let found = config.train.reduce_dtype.name();
        let message =
            format!("expected f32 where one process trains alone and nothing travels, found {found}");
        return bad("train.reduce_dtype", message);
    }
    let device = config.train.device;
    let expected = match ranks.gpu() {
        None if device != DeviceSpec::Cpu => "cpu where there are several ranks",
        Some(_) if !matches!(device, DeviceSpec::Cpu | DeviceSpec::Cuda(0)) => {
            "cuda where there are several ranks, each with a GPU of its own"
        }
        _ => return Ok(()),
    };
    if size > 1 { bad("train.device", format!("expected {expected}, found {device}")) } else { Ok(()) }
}

/// The same on the GPU that is this rank's, where each has its own.
fn with_own_gpu(ranks: &dyn Ranks, config: &Config) -> Config {
    let mut own = config.clone();
    if let (Some(gpu), DeviceSpec::Cuda(_)) = (ranks.gpu(), config.train.device) {
        own.train.device = DeviceSpec::Cuda(gpu);
    }
    own
}

fn resumed(config: &Config, start: &Start, n_ranks: usize) -> Result<Option<Resumed>> {
    match start {
        Start::Fresh => {
            config.run.dir.as_deref().map_or(Ok(()), RunDir::check_free)?;
            Ok(None)
        }
        Start::Resume(checkpoint) => {
            let resumed = Resumed::open(config, checkpoint)?;
            resumed.check_ranks(config, n_ranks)?;
            Ok(Some(resumed))
        }
    }
}

impl Opened {
    /// For a run that stands at `position`; `looks` is whether to look at every image file first.
    fn new(config: &Config, position: &Position, looks: bool) -> Result<Self> {
        let splits = config.read_splits()?;
        splits.check_labels()?;
        let data = DataRecord::of(&splits);
        let Splits { train, val, encoders, .. } = splits;
        let train_split = sha256(&train.to_csv());
        let model = setup::build_model(config, &encoders)?;
        let train = setup::train_feeder(config, train, &encoders, &model)?;
        let val = setup::eval_feeder(config, val, &config.data.images, &encoders, &model)?;
        if looks {
            setup::check_files(config, &[&train, &val].map(|feeder| &**feeder.loader().dataset()))?;
        }
        let teacher = teacher::open(config, train.loader().dataset().manifest(), &encoders)?;
        let length = Length::of(config, train.loader().n_batches());
        let mut learner = Learner::for_split(config, model, &encoders, train.loader(), position)?;
        if let Some(teacher) = teacher {
            learner.objective.learn_from(teacher);
        }
        let machine = Machine::look().with_gpu(config.train.device)?;
        Ok(Self { train, val, learner, encoders, train_split, data, length, machine })
    }

    /// What must be the same on all ranks.
    fn facts(&self, config: &Config) -> Vec<(String, String)> {
        let mut facts = settings(config);
        facts.retain(|(name, _)| !OF_A_MACHINE.contains(&name.as_str()));
        let val_split = sha256(&self.val.loader().dataset().manifest().to_csv());
        let labels = serde_json::to_string(&self.encoders).expect("labels are JSON");
        let others = [
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("instruction set", format!("{:?}", Level::best())),
            ("training split", self.train_split.clone()),
            ("teacher", self.learner.objective.teacher().unwrap_or("none").to_owned()),
            ("validation split", val_split),
            ("labels", labels),
        ];
        facts.extend(others.map(|(name, value)| (name.to_owned(), value)));
        facts
    }
}

/// The first rank's: the run's folder, and what is learnt so far in the learner. Gives where the run stands.
fn folder(
    config: &Config,
    resumed: Option<Resumed>,
    opened: &mut Opened,
    mut position: Position,
    n_ranks: usize,
) -> Result<(Folder, Position)> {
    let Opened { learner, encoders, train_split, data, length, machine, .. } = opened;
    let folder = match resumed {
        None => {
            let init = weights::initialise(&mut learner.model, &config.model.init)?;
            let init_record = InitRecord::of(&init, learner.model.parameters())?;
            learner.begin_average()?;
            let run_dir = RunDir::create(config.run.dir.as_deref(), "train")?;
            let lock = run_dir.lock()?;
            RunDir::check_free(run_dir.path())?; // somebody else may have been faster
            let first = run_dir.step_checkpoint(0);
            Checkpoint::write(&first, learner, position, encoders, train_split)?;
            link_dir(&first, &run_dir.checkpoint(CheckpointName::Last))?;
            run_dir.describe(config, &init.to_string(), init_record.as_ref(), machine, encoders, data)?;
            Folder { run_dir, lock: Some(lock), init: Some(init), changes: Vec::new() }
        }
        Some(resumed) => {
            let teacher = learner.objective.teacher();
            resumed.check_data(config, (train_split.as_str(), teacher), encoders, length)?;
            let Resumed { run_dir, lock, checkpoint, changes, .. } = resumed;
            checkpoint.restore(learner)?;
            run_dir.go_on_from(&checkpoint, &mut position)?;
            run_dir.write_config(config)?;
            let changed: Vec<String> = changes.iter().map(ToString::to_string).collect();
            run_dir.describe_resumption(position.step, &changed, machine, data)?;
            Folder { run_dir, lock: Some(lock), init: None, changes }
        }
    };
    folder.run_dir.describe_ranks(n_ranks)?;
    Ok((folder, position))
}

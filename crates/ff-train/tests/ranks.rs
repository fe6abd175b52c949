//! Training shared by ranks, here a thread each: the same bytes for any number of them, and one end for all.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[cfg(feature = "nccl")]
#[path = "ranks/nccl.rs"]
mod nccl;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Device;
use ff_data::Split;
use ff_model::{Architecture, HeadSpec, Parameters, weights};
use ff_train::ranks::{Ranks, ReduceDtype, threads};
use ff_train::records::StepRecord;
use ff_train::{
    Config, ConfigBuilder, Error, Observer, Preset, Result, Start, TrainingResult, train_on_ranks,
};
use fs_err as fs;

/// Everything that a step can depend on, in as many recipes as it takes: a frozen epoch and one that is not.
const RECIPES: [&str; 3] = [
    r#"
[data]
mixup = 0.4
[model]
freeze_epochs = 1
[optimizer]
accumulate = 4
clip_norm = 1.0
ema_decay = 0.9
[loss]
task_weights = "uncertainty"
"#,
    r#"
[data]
balance = ["race", "gender"]
trivial_augment = true
random_erasing = 0.5
resized_crop = 0.5
[optimizer]
accumulate = 4
ema_decay = 0.9
sam_rho = 0.05
[loss]
self_distill = 0.3
reweight = ["gender"]
"#,
    r#"
[model]
freeze_epochs = 1
[optimizer]
accumulate = 4
frozen_lr = 3.0
swa_from = 1
[schedule]
kind = "cosine"
[loss]
dro = ["race"]
dro_step = 0.5
teacher = "TEACHER"
"#,
];

/// 14 batches of two: three whole steps and a half one, of which the last ranks have nothing.
const TRAINING_ROWS: usize = 28;
/// Of two epochs.
const STEPS: usize = 8;
/// Three batches, the last of one image.
const VALIDATION_ROWS: usize = 5;

const FILES: [&str; 4] = ["model.safetensors", "model_ema.safetensors", "state.safetensors", "state.json"];

struct Place {
    dir: tempfile::TempDir,
    recipe: usize,
}

impl Place {
    fn new(recipe: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (splits, images) = (dir.path().join("splits"), dir.path().join("images"));
        fs::create_dir(&splits).unwrap();
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/sample");
        for split in Split::ALL {
            let text = fs::read_to_string(split.path(sample.join("splits"))).unwrap();
            let n = if split == Split::Train { TRAINING_ROWS } else { VALIDATION_ROWS };
            let mut rows = "file,age,gender,race\n".to_owned();
            for (i, row) in text.lines().skip(1).take(n).enumerate() {
                let file = row.split(',').next().unwrap();
                fs::create_dir_all(images.join(file).parent().unwrap()).unwrap();
                fs::copy(sample.join("images").join(file), images.join(file)).unwrap();
                let (age, gender) = (["20-29", "3-9", "10-19"][i % 3], ["Female", "Male"][i % 2]);
                rows += &format!("{file},{age},{gender},{}\n", ["Black", "White"][i / 2 % 2]);
            }
            fs::write(split.path(&splits), rows).unwrap();
        }
        let teacher = dir.path().join("teacher.safetensors");
        let place = Self { dir, recipe };
        let text = RECIPES[recipe].replace("TEACHER", &teacher.display().to_string());
        if text != RECIPES[recipe] {
            place.write_teacher(&teacher);
        }
        fs::write(place.path("recipe.toml"), text).unwrap();
        place
    }

    /// A model of race alone, with other classes first.
    fn write_teacher(&self, path: &Path) {
        let heads = [HeadSpec::new("race", 2)];
        let model = Parameters::initialise(Architecture::Resnet18, &heads, 5, &Device::Cpu).unwrap();
        let labels = r#"{"race": ["Black", "White"]}"#.to_owned();
        fs::write(path, weights::serialise(&model, ("labels", labels)).unwrap()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self, run: &str) -> Config {
        self.builder(run).resolve().unwrap()
    }

    fn builder(&self, run: &str) -> ConfigBuilder {
        builder(self.dir.path(), run)
    }

    /// The files of a checkpoint.
    fn bytes(&self, run: &str) -> [Vec<u8>; 4] {
        FILES.map(|name| fs::read(self.path(run).join("checkpoints/last").join(name)).unwrap())
    }

    /// The lines of the steps, without the time that they took.
    fn steps(&self, run: &str) -> Vec<StepRecord> {
        let text = fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap();
        let records = text.lines().filter_map(|line| serde_json::from_str::<StepRecord>(line).ok());
        records.map(|record| StepRecord { seconds: 0.0, ..record }).collect()
    }

    /// Holds a run against what one process comes to.
    #[track_caller]
    fn assert_same_as_alone(&self, run: &str) {
        let (alone, _) = alone(self.recipe);
        for ((name, found), expected) in FILES.iter().zip(self.bytes(run)).zip(alone.bytes("alone")) {
            assert!(found == expected, "{name} of {run} differs from what one process comes to");
        }
        let (found, expected) = (self.steps(run), alone.steps("alone"));
        assert_eq!((expected.len(), found), (STEPS, expected));
    }
}

/// Of a run in the folder of a [`Place`].
fn builder(place: &Path, run: &str) -> ConfigBuilder {
    ConfigBuilder::new(Preset::Sample, Path::new(""))
        .file(&place.join("recipe.toml"))
        .unwrap()
        .set("data.splits", Some(place.join("splits")))
        .set("data.images", Some(place.join("images")))
        .set("data.image_size", Some(64))
        .set("data.batch_size", Some(2))
        .set("data.workers", Some(1))
        .set("data.cache_dir", Some(place.join("cache")))
        .set("train.epochs", Some(2))
        .set("train.threads", Some(1))
        .set("model.backbone", Some("resnet18"))
        .set("model.init", Some("random"))
        .set("run.dir", Some(place.join(run)))
}

/// A run of one process that nothing happened to, which is made once a recipe.
fn alone(recipe: usize) -> &'static (Place, TrainingResult) {
    static ALONE: [OnceLock<(Place, TrainingResult)>; RECIPES.len()] =
        [const { OnceLock::new() }; RECIPES.len()];
    ALONE[recipe].get_or_init(|| {
        let place = Place::new(recipe);
        let result = train_whole(1, &place.config("alone")).remove(0);
        (place, result)
    })
}

/// Sets somebody's flag after a step.
struct StopAfter<'a>(u64, &'a AtomicBool);

impl Observer for StopAfter<'_> {
    fn step(&mut self, step: &StepRecord) {
        self.1.store(step.step >= self.0, Ordering::Relaxed);
    }
}

/// Trains on so many ranks. The last one alone is asked to stop, after `stop_after` steps.
fn train(size: usize, config: &Config, start: &Start, stop_after: u64) -> Vec<Result<TrainingResult>> {
    let stop: Vec<AtomicBool> = (0..size).map(|_| AtomicBool::new(false)).collect();
    threads::run(size, |ranks| {
        let own = &stop[ranks.rank()];
        train_on_ranks(ranks, config, start.clone(), &mut StopAfter(stop_after, &stop[size - 1]), own)
    })
}

fn train_whole(size: usize, config: &Config) -> Vec<TrainingResult> {
    train(size, config, &Start::Fresh, u64::MAX).into_iter().map(Result::unwrap).collect()
}

fn messages(results: Vec<Result<TrainingResult>>) -> Vec<String> {
    results.into_iter().map(|result| result.unwrap_err().to_string()).collect()
}

#[test]
fn any_number_of_ranks_comes_to_the_same_bytes_and_figures() {
    for recipe in 0..RECIPES.len() {
        let (place, (_, alone)) = (Place::new(recipe), alone(recipe));
        assert!(alone.val.is_some() && alone.ema.is_some());
        for size in [2, 4] {
            let run = size.to_string();
            for result in train_whole(size, &place.config(&run)) {
                assert_eq!((&result.val, &result.ema), (&alone.val, &alone.ema), "{size} ranks");
                assert_eq!(result.steps, STEPS as u64);
            }
            place.assert_same_as_alone(&run);
        }
    }
}

/// Ranks with a GPU each add whole gradients, where they lie: here on the host.
struct WithGpu<'r>(&'r mut dyn Ranks);

impl Ranks for WithGpu<'_> {
    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn gpu(&self) -> Option<usize> {
        Some(self.rank())
    }

    fn gather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.0.gather(bytes)
    }

    fn broadcast(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        self.0.broadcast(bytes)
    }

    fn sum(&mut self, values: &mut [f32], n: usize, dtype: ReduceDtype) -> Result<()> {
        self.0.sum(values, n, dtype)
    }
}

#[test]
fn ranks_with_gpus_come_to_the_same_bytes() {
    let place = Place::new(0);
    for size in [2, 4] {
        let run = size.to_string();
        let config = place.config(&run);
        let results = threads::run(size, |ranks| {
            let stop = AtomicBool::new(false);
            train_on_ranks(&mut WithGpu(ranks), &config, Start::Fresh, &mut (), &stop)
        });
        results.into_iter().for_each(|result| drop(result.unwrap()));
        place.assert_same_as_alone(&run);
    }
    // What each of them is to compute on is its launcher's to say, not its user's.
    let config = place.builder("other").set("train.device", Some("cuda:1")).resolve().unwrap();
    let refused = threads::run(2, |ranks| {
        let stop = AtomicBool::new(false);
        train_on_ranks(&mut WithGpu(ranks), &config, Start::Fresh, &mut (), &stop).unwrap_err().to_string()
    });
    let expected =
        "train.device: expected cuda where there are several ranks, each with a GPU of its own, found cuda:1";
    assert_eq!(refused, [expected; 2]);
}

#[test]
fn a_run_goes_on_inside_an_epoch_with_other_numbers_of_ranks() {
    (0..RECIPES.len()).for_each(goes_on);
}

fn goes_on(recipe: usize) {
    let place = Place::new(recipe);
    let resume = Start::Resume("last".to_owned());
    // The fourth step is the first epoch's last.
    for (size, start, steps) in [(2, &Start::Fresh, 1), (1, &resume, 3), (2, &resume, 4), (4, &resume, 6)] {
        let ended: Vec<_> = train(size, &place.config("run"), start, steps)
            .into_iter()
            .map(|result| result.map(|result| (result.steps, result.interrupted)).unwrap())
            .collect();
        // Who is asked may have said what it knew for the next step already.
        assert!(ended[0] == (steps, true) || (size > 1 && ended[0] == (steps + 1, true)), "{ended:?}");
        assert_eq!(ended, vec![ended[0]; size]);
    }
    train(2, &place.config("run"), &resume, u64::MAX).into_iter().for_each(|result| assert!(result.is_ok()));
    place.assert_same_as_alone("run");
}

/// Of a rank that does not write.
#[test]
fn an_image_that_breaks_on_one_rank_ends_all_and_costs_nothing() {
    let place = Place::new(0);
    let rows = fs::read_to_string(Split::Train.path(place.path("splits"))).unwrap();
    let file = place.path("images").join(rows.lines().nth(20).unwrap().split(',').next().unwrap());
    let sound = fs::read(&file).unwrap();
    // What looks at the files before a run sees nothing wrong with it.
    fs::write(&file, &sound[..sound.len() * 2 / 3]).unwrap();
    let alone = messages(train(1, &place.config("broken"), &Start::Fresh, u64::MAX));
    let ended = messages(train(4, &place.config("run"), &Start::Fresh, u64::MAX));
    assert!(ended.iter().all(|message| *message == ended[0]), "{ended:?}");
    assert!(ended[0].ends_with(&alone[0]), "{} has {}", ended[0], alone[0]);
    fs::write(&file, &sound).unwrap();
    train(2, &place.config("run"), &Start::Resume("last".to_owned()), u64::MAX)
        .into_iter()
        .for_each(|result| assert!(result.is_ok()));
    place.assert_same_as_alone("run");
}

#[test]
fn a_loss_that_is_no_number_is_one_everywhere() {
    let place = Place::new(0);
    let config = |run: &str| place.builder(run).set("optimizer.lr", Some(1e30)).resolve().unwrap();
    let alone = messages(train(1, &config("run"), &Start::Fresh, u64::MAX));
    fs::remove_dir_all(place.path("run")).unwrap();
    assert_eq!(messages(train(2, &config("run"), &Start::Fresh, u64::MAX)), [&*alone[0]; 2]);
}

/// Then what comes of a run is its number of ranks' own, and so only that number goes on.
#[test]
fn gradients_that_travel_as_bf16_bind_a_run_to_its_number_of_ranks() {
    let place = Place::new(0);
    let config = |run: &str| place.builder(run).set("train.reduce_dtype", Some("bf16")).resolve().unwrap();
    train_whole(2, &config("whole"));
    let (whole, exact) = (place.bytes("whole"), alone(0).0.bytes("alone"));
    assert!(whole[0] != exact[0], "rounding changes bits");
    let (losses, exact) = (place.steps("whole"), alone(0).0.steps("alone"));
    let off = losses.iter().zip(&exact).map(|(found, expected)| (found.loss / expected.loss - 1.0).abs());
    assert!(off.fold(0.0, f64::max) < 0.02, "{losses:?} {exact:?}");

    let resume = Start::Resume("last".to_owned());
    train(2, &config("run"), &Start::Fresh, 3).into_iter().for_each(|result| assert!(result.is_ok()));
    let message = "train.reduce_dtype: expected the 2 ranks that the run had so far, found 4: what comes of gradients \
                   that travel as bf16 depends on how many there are; with f32 any number goes on";
    let refused = messages(train(4, &config("run"), &resume, u64::MAX));
    assert_eq!(refused[0], message);
    assert!(refused[1..].iter().all(|other| *other == format!("rank 0: {message}")), "{refused:?}");
    let message =
        "train.reduce_dtype: expected f32 where one process trains alone and nothing travels, found bf16";
    assert_eq!(messages(train(1, &config("run"), &resume, u64::MAX)), [message]);
    train(2, &config("run"), &resume, u64::MAX).into_iter().for_each(|result| assert!(result.is_ok()));
    assert!(place.bytes("run") == whole);
    // Nobody is bound to it for ever.
    let again = place.builder("run").set("train.epochs", Some(3)).resolve().unwrap();
    train(4, &again, &resume, u64::MAX).into_iter().for_each(|result| assert!(result.is_ok()));
}

#[test]
fn ranks_that_cannot_share_a_step_or_were_started_differently_are_refused() {
    let place = Place::new(0);
    let refused = messages(train(3, &place.config("run"), &Start::Fresh, u64::MAX));
    let expected = "optimizer.accumulate: expected a multiple of the 3 ranks that share a step, found 4";
    assert_eq!(refused, [expected; 3]);
    let found = threads::run(2, |ranks| {
        let seed = 42 + ranks.rank();
        let config = place.builder("run").set("train.seed", Some(seed)).resolve().unwrap();
        train_on_ranks(ranks, &config, Start::Fresh, &mut (), &AtomicBool::new(false)).unwrap_err()
    });
    for error in found {
        assert!(matches!(error, Error::RanksDiffer { .. }));
        assert_eq!(error.to_string(), "rank 1 differs from rank 0 in train.seed: expected 42, found 43");
    }
    assert!(!place.path("run").join("config.toml").exists());
}

//! Tasks of one's own, by library: what the command line does with them is in ff-cli's tests.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ff_core::UNKNOWN;
use ff_data::Split;
use ff_train::infer::{Trained, TrainedSource, open_trained, predict};
use ff_train::records::StepRecord;
use ff_train::run::{CheckpointName, RunDir};
use ff_train::setup::eval_feeder;
use ff_train::{Config, ConfigBuilder, Observer, Preset, Start, train};
use fs_err as fs;

/// Sets the flag after a step.
struct StopAfter<'a>(u64, &'a AtomicBool);

impl Observer for StopAfter<'_> {
    fn step(&mut self, step: &StepRecord) {
        self.1.store(step.step >= self.0, Ordering::Relaxed);
    }
}

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/sample")
}

/// Splits of the sample's first faces, with these columns after `file`.
fn splits(dir: &Path, header: &str, row: impl Fn(usize) -> String) -> PathBuf {
    let splits = dir.join("splits");
    fs::create_dir(&splits).unwrap();
    for split in Split::ALL {
        let text = fs::read_to_string(split.path(sample().join("splits"))).unwrap();
        let files = text.lines().skip(1).take(12).map(|row| row.split(',').next().unwrap());
        let rows: Vec<String> = files.enumerate().map(|(i, file)| format!("{file},{}", row(i))).collect();
        fs::write(split.path(&splits), format!("file,{header}\n{}\n", rows.join("\n"))).unwrap();
    }
    splits
}

fn config(dir: &Path, splits: &Path, tasks: &str, run: &str) -> Config {
    let file = dir.join("settings.toml");
    fs::write(&file, tasks).unwrap();
    ConfigBuilder::new(Preset::Sample, Path::new(""))
        .file(&file)
        .unwrap()
        .set("data.splits", Some(splits))
        .set("data.images", Some(sample().join("images")))
        .set("data.image_size", Some(64))
        .set("data.batch_size", Some(4))
        .set("data.workers", Some(2))
        .set("train.epochs", Some(1))
        .set("train.threads", Some(1))
        .set("model.init", Some("random"))
        .set("run.dir", Some(dir.join(run)))
        .resolve()
        .unwrap()
}

#[test]
fn tasks_with_holes_are_resumed_to_the_same_bytes_and_judged_by_what_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let splits = splits(dir.path(), "Mood,glasses,experience", |i| {
        let mood = ["calm", "glad", "sad", ""][i % 4];
        let experience = ["0-9", "10-19", "20-29", "30-39", "more than 40", ""][i % 6];
        format!("{mood},{},{experience}", ["no", "yes"][i % 2])
    });
    let tasks = "[[tasks]]\nname = \"emotion\"\ncolumn = \"Mood\"\n[[tasks]]\nname = \"glasses\"\n\
                 [[tasks]]\nname = \"experience\"\norder = \"ordered\"\n";
    let config = |run| config(dir.path(), &splits, tasks, run);
    let go = AtomicBool::new(false);
    train(&config("whole"), Start::Fresh, &mut (), &go).unwrap();
    let stop = AtomicBool::new(false);
    let stopped = train(&config("stopped"), Start::Fresh, &mut StopAfter(2, &stop), &stop).unwrap();
    assert!(stopped.interrupted && stopped.steps == 2);
    train(&config("stopped"), Start::Resume("last".to_owned()), &mut (), &go).unwrap();
    for name in ["model.safetensors", "state.safetensors"] {
        let bytes = |run: &str| fs::read(dir.path().join(run).join("checkpoints/last").join(name)).unwrap();
        assert!(bytes("whole") == bytes("stopped"), "{name} differs");
    }

    let run = RunDir::open(&dir.path().join("whole")).unwrap();
    let config = run.config().unwrap();
    let names: Vec<&str> = config.tasks.names().map(|name| name.as_str()).collect();
    assert_eq!(names, ["emotion", "glasses", "experience"]);
    let source = TrainedSource::Run { dir: run.path().to_owned(), which: CheckpointName::Last };
    let Trained { mut model, encoders, .. } =
        open_trained(&source, &config.train.compute().unwrap()).unwrap();
    let val = config.read_splits().unwrap().val;
    let mut feeder = eval_feeder(&config, val, &config.data.images, &encoders, &model).unwrap();
    let predictions = predict(&mut model, &mut feeder, |_| ControlFlow::Continue(())).unwrap().unwrap();
    let unknown = |task: &str| predictions.targets[task].iter().filter(|&&id| id == UNKNOWN).count();
    assert_eq!(["emotion", "glasses", "experience"].map(unknown), [3, 0, 2]);
    let evaluation = predictions.evaluate(&encoders, &["glasses".to_owned()]).unwrap();
    assert_eq!(["emotion", "glasses", "experience"].map(|task| evaluation.confusion[task].n()), [9, 12, 10]);
    assert!(
        evaluation.tasks["experience"].one_off.is_some() && evaluation.tasks["emotion"].one_off.is_none()
    );
}

#[test]
fn one_task_works_and_twelve_work() {
    for n in [1, 12] {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..n).map(|i| format!("task-{i}")).collect();
        let splits = splits(dir.path(), &names.join(","), |i| {
            (0..n).map(|task| ["a", "b", "c"][(i + task) % 3]).collect::<Vec<_>>().join(",")
        });
        let tasks: String = names.iter().map(|name| format!("[[tasks]]\nname = \"{name}\"\n")).collect();
        let result = train(
            &config(dir.path(), &splits, &tasks, "run"),
            Start::Fresh,
            &mut (),
            &AtomicBool::new(false),
        );
        let val = result.unwrap().val.unwrap();
        assert_eq!(val.names().map(ToString::to_string).collect::<Vec<_>>(), names);
        assert!(val.values().all(|figures| figures.nll.is_finite()));
    }
}

/// A column of empty cells is a mistake of somebody's, not a split that says nothing.
#[test]
fn a_task_that_validation_knows_nothing_of_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let splits = splits(dir.path(), "a,b", |i| format!("{},{}", i % 2, i % 3));
    let val = Split::Val.path(&splits);
    let text = fs::read_to_string(&val).unwrap();
    let rows = text.lines().skip(1).map(|row| format!("{},\n", row.rsplit_once(',').unwrap().0));
    fs::write(&val, format!("file,a,b\n{}", rows.collect::<String>())).unwrap();
    let tasks = "[[tasks]]\nname = \"a\"\n[[tasks]]\nname = \"b\"\n";
    let config = config(dir.path(), &splits, tasks, "run");
    let refused = train(&config, Start::Fresh, &mut (), &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(refused.contains("ff_val.csv") && refused.contains("column b"), "{refused}");
}

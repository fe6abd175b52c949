//! Tasks of one's own, by library: `cargo run --release --package ff-train --example own_tasks`
//!
//! Emotion, glasses and an ordered task of five bins are learnt from a CSV with holes, for a few steps on faces of the
//! bundled sample, whose labels are made up here. Then the model answers.

#![expect(clippy::print_stdout, reason = "an example says what it found")]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use ff_data::{Dataset, ImageInput, LoaderConfig, Split};
use ff_train::infer::{Predictor, TrainedSource, open_trained};
use ff_train::records::StepRecord;
use ff_train::run::CheckpointName;
use ff_train::{ConfigBuilder, Observer, Preset, Start, train};

const SETTINGS: &str = r#"
[[tasks]]
name = "emotion"
column = "Mood"
[[tasks]]
name = "glasses"
[[tasks]]
name = "experience" # years
order = "ordered"

[data]
image_size = 64
batch_size = 8
[train]
epochs = 2
[loss]
ordered = "ordinal"
"#;

/// Prints every step.
struct Printer;

impl Observer for Printer {
    fn step(&mut self, step: &StepRecord) {
        let losses: Vec<String> =
            step.losses.iter().map(|(task, loss)| format!("{task} {loss:.2}")).collect();
        println!("step {}: {}", step.step, losses.join(", "));
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let sample = root.join("data/sample");
    let dir = tempfile::tempdir()?;
    let splits = dir.path().join("splits");
    fs_err::create_dir(&splits)?;
    for split in Split::ALL {
        let rows = fs_err::read_to_string(split.path(sample.join("splits")))?;
        let files = rows.lines().skip(1).filter_map(|row| row.split(',').next()).take(24);
        fs_err::write(split.path(&splits), table(files))?;
    }
    let settings = dir.path().join("settings.toml");
    fs_err::write(&settings, SETTINGS)?;
    let run = dir.path().join("run");
    let config = ConfigBuilder::new(Preset::Sample, &root)
        .file(&settings)?
        .set("data.splits", Some(&splits))
        .set("run.dir", Some(&run))
        .resolve()?;
    let trained = train(&config, Start::Fresh, &mut Printer, &AtomicBool::new(false))?;
    for (task, figures) in trained.val.iter().flatten() {
        println!("validation, {task}: {:.0} % right", 100.0 * figures.accuracy);
    }

    let source = TrainedSource::Run { dir: run, which: CheckpointName::Best };
    let mut predictor = Predictor::new(open_trained(&source, &config.train.compute()?)?);
    let rows = fs_err::read_to_string(sample.join("splits/ff_val.csv"))?;
    let file =
        rows.lines().nth(1).and_then(|row| row.split(',').next()).ok_or("expected a row, found none")?;
    let face = sample.join("images").join(file);
    let inputs = ImageInput::expand(&face.to_string_lossy(), Path::new(""), &mut std::io::empty())?;
    let images = Dataset::unlabelled(inputs)?.with_image_size(config.data.image_size)?;
    predictor.predict(images, LoaderConfig::eval(1), |answers| {
        for (task, answer) in answers.iter().flat_map(|answer| answer.tasks.iter()) {
            println!("{task}: {} ({:.0} %)", answer.label, 100.0 * answer.probability);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(())
}

/// A CSV of these files. Every label occurs; some cells are empty: not known.
fn table<'a>(files: impl Iterator<Item = &'a str>) -> String {
    let rows = files.enumerate().map(|(i, file)| {
        let mood = ["calm", "glad", "sad", ""][i % 4];
        let glasses = ["no", "yes"][i % 2];
        let experience = ["0-9", "10-19", "20-29", "30-39", "more than 40", ""][i % 6];
        format!("{file},{mood},{glasses},{experience}\n")
    });
    format!("file,Mood,glasses,experience\n{}", rows.collect::<String>())
}

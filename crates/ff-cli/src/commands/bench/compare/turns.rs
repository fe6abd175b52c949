//! Turns: everybody's process once a round, on the same files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;

use anyhow::Result;
use ff_core::files::write_atomic;
use ff_data::Splits;
use ff_model::Precision;
use ff_model::onnx::{self, BatchNorm, Options};
use ff_model::weights::{labels_metadata, serialise};
use ff_train::Config;
use ff_train::setup::{build_model, task_labels};
use indicatif::ProgressBar;

use super::super::network::synthetic;
use super::peers::{Case, Numbers, Peer, SCRIPTS, Work};
use super::process::{Answer, Failure, Runner};
use super::results::Measured;

/// What everybody is given.
pub struct Turns<'a> {
    /// This program.
    pub ours: PathBuf,
    pub python: &'a Path,
    pub config: &'a Config,
    pub runner: &'a Runner<'a>,
}

impl Turns<'_> {
    /// Writes the scripts, and what they read: the model, our logits of the first image, the loader's files.
    pub fn write_files(&self, works: &[Work], splits: &Splits) -> Result<()> {
        let write = |name: &str, bytes: &[u8]| write_atomic(&self.runner.folder.join(name), bytes);
        SCRIPTS.iter().try_for_each(|(name, script)| write(name, script.as_bytes()))?;
        if works.contains(&Work::Loader) {
            let images = std::path::absolute(&self.config.data.images)?;
            let line = |file: &String| images.join(file).display().to_string() + "\n";
            let files: String = splits.train.rows().iter().map(|row| line(&row.file)).collect();
            write("files.txt", files.as_bytes())?;
        }
        if works.iter().all(|work| *work == Work::Loader) {
            return Ok(());
        }
        let mut config = self.config.clone();
        config.data.batch_size = 1;
        let mut model = build_model(&config, &splits.encoders)?;
        let (tasks, size) = (task_labels(&splits.encoders), config.data.image_size);
        // Folded: runtimes do that by themselves, and whoever does not should not lose by it.
        let options =
            Options { height: size, width: size, batch_norm: BatchNorm::Folded, ..Options::default() };
        write("model.safetensors", &serialise(model.parameters(), labels_metadata(&tasks))?)?;
        write("model.onnx", &onnx::export(model.parameters(), &tasks, &options)?)?;
        let image = synthetic(&config, &model)?;
        let logits = model.predict(&image)?.logits;
        let logits: Vec<Vec<f32>> =
            logits.iter().map(|task| task.flatten_all()?.to_vec1()).collect::<Result<_, _>>()?;
        Ok(write("logits.json", &serde_json::to_vec(&logits.concat())?)?)
    }

    /// Everybody once a round; who has failed is not asked again.
    pub fn measure(
        &self,
        case: &Case,
        peers: &[&'static Peer],
        rounds: usize,
        bar: &ProgressBar,
    ) -> (Measured, Vec<Measured>) {
        let begun = |name| Measured { name, answers: Vec::new(), failure: None };
        let mut ours = begun("ours");
        let mut theirs: Vec<Measured> = peers.iter().map(|peer| begun(peer.name)).collect();
        for _ in 0..rounds {
            self.turn(&mut ours, case, bar, || self.ours(case));
            for (measured, peer) in theirs.iter_mut().zip(peers) {
                self.turn(measured, case, bar, || self.theirs(case, peer));
            }
        }
        (ours, theirs)
    }

    fn turn(
        &self,
        measured: &mut Measured,
        case: &Case,
        bar: &ProgressBar,
        run: impl FnOnce() -> Result<Answer, Failure>,
    ) {
        bar.set_message(format!("{}: {}", case.described(), measured.name));
        if measured.failure.is_none() && !self.runner.stop.load(Ordering::Relaxed) {
            match run() {
                Ok(answer) => measured.answers.push(answer),
                Err(failure) => measured.failure = Some(failure),
            }
        }
        bar.inc(1);
    }

    fn ours(&self, case: &Case) -> Result<Answer, Failure> {
        let Config { data, model, train, .. } = self.config;
        let mut command = Command::new(&self.ours);
        command.args(["bench", case.work.name(), "--json", "--quiet", "--device", "cpu"]);
        command.arg("--splits").arg(&data.splits).arg("--images").arg(&data.images);
        let precision = case.numbers.map_or(Precision::F32 { tf32: false }, Numbers::ours);
        command.args(["--precision", precision.name(), "--backbone", model.backbone.name()]);
        command.args(["--augment", data.augment.name()]);
        give(
            &mut command,
            &[
                ("--image-size", data.image_size),
                ("--batch-size", case.batch_size),
                ("--steps", case.steps),
                ("--threads", train.threads),
                ("--workers", data.workers),
            ],
        );
        self.runner.answer(&mut command)
    }

    fn theirs(&self, case: &Case, peer: &Peer) -> Result<Answer, Failure> {
        let Config { data, train, .. } = self.config;
        let folder = self.runner.folder;
        let threads = if case.work == Work::Loader { data.workers } else { train.threads };
        let mut command = Command::new(self.python);
        command.env("OMP_NUM_THREADS", threads.to_string());
        command.arg(folder.join(peer.script)).args(peer.args);
        give(
            &mut command,
            &[
                ("--batch-size", case.batch_size),
                ("--image-size", data.image_size),
                ("--threads", threads),
                ("--steps", case.steps),
            ],
        );
        match case.numbers {
            Some(numbers) => command.args(["--precision", numbers.name()]).arg("--model").arg(folder),
            None => {
                command.args(["--augment", data.augment.name()]).arg("--files").arg(folder.join("files.txt"))
            }
        };
        let answer = self.runner.answer(&mut command)?;
        match answer.difference {
            Some(found) if !case.is_same_network(found) => Err(Failure {
                message: format!(
                    "expected our network's logits, found others: {found:.1e} of the largest apart"
                ),
                stderr: String::new(),
            }),
            _ => Ok(answer),
        }
    }
}

fn give(command: &mut Command, flags: &[(&str, usize)]) {
    flags.iter().for_each(|(flag, value)| {
        command.args([*flag, value.to_string().as_str()]);
    });
}

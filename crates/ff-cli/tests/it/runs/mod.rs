//! Runs that are killed, stopped, damaged or changed, and go on.

mod faults;
mod folder;
mod kills;
mod launchers;
mod learning;
#[cfg(feature = "mpi")]
mod mpi;
mod positions;
mod seeds;
mod sweep;
mod version;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use ff_core::fault::{GATE, VARIABLE};
use ff_core::files::sha256;
use fs_err as fs;
use serde_json::Value;

use crate::workplace::{Workplace, assert_exit};

/// Everything that a step can depend on, at once; six steps in three epochs, a checkpoint after each.
const RECIPE: &str = r#"
[data]
mixup = 0.4
cutmix = 1.0
[model]
freeze_epochs = 1
[train]
epochs = 3
[optimizer]
head_lr = 3.0
layer_decay = 0.9
clip_norm = 1.0
ema_decay = 0.9
[schedule]
kind = "cosine"
warmup_epochs = 1.0
[loss]
class_weights = "effective"
label_smoothing = 0.1
task_weights = "uncertainty"
[run]
checkpoint_steps = 1
"#;

const TENSORS: [&str; 3] = ["model.safetensors", "model_ema.safetensors", "state.safetensors"];

fn place() -> Workplace {
    let place = Workplace::new();
    fs::write(place.path("recipe.toml"), RECIPE).unwrap();
    place
}

fn fresh<'a>(place: &Workplace, run: &'a str) -> Vec<&'a str> {
    place.train_args(&["--batch-size", "4", "--config", "recipe.toml", "--run-dir", run])
}

fn resume(run: &str) -> [&str; 4] {
    ["train", "--resume", "--run-dir", run]
}

#[track_caller]
fn go_on(place: &Workplace, run: &str) {
    assert_exit(&place.run(&resume(run)), 0);
}

/// Runs with faults: `ff_core::fault` says which there are.
fn with_fault(place: &Workplace, args: &[&str], faults: &str) -> Output {
    place.command(args).env(VARIABLE, faults).output().unwrap()
}

/// A process that waits at a point that it was told.
struct Waiting<'a> {
    place: &'a Workplace,
    child: Child,
}

/// Starts a run that waits at the point of `faults`, and comes back when it does.
#[track_caller]
fn start_and_wait<'a>(place: &'a Workplace, args: &[&str], faults: &str) -> Waiting<'a> {
    let mut command = place.command(args);
    command.env(VARIABLE, faults).env(GATE, place.path("gate")).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    while !place.path("gate").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it came to {faults}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Waiting { place, child }
}

impl Waiting<'_> {
    /// Opens the gate; gives the exit code and all that was said on stderr.
    fn go_on(self) -> (Option<i32>, String) {
        fs::remove_file(self.place.path("gate")).unwrap();
        let output = self.child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Sends a signal, and opens the gate when the process has said that it heard it; gives the exit code and what it
    /// said from then on.
    fn go_on_after(mut self, signal: &str) -> (Option<i32>, String) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let mut lines = BufReader::new(self.child.stderr.take().unwrap()).lines();
        lines.by_ref().map(|line| line.unwrap()).find(|line| line.contains("stopping")).expect("it is heard");
        fs::remove_file(self.place.path("gate")).unwrap();
        let said: Vec<String> = lines.map(|line| line.unwrap()).collect();
        (self.child.wait().unwrap().code(), said.join("\n"))
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A file of the last checkpoint.
fn bytes(place: &Workplace, run: &str, name: &str) -> Vec<u8> {
    fs::read(place.path(run).join("checkpoints/last").join(name)).unwrap()
}

/// The names in `checkpoints/`.
fn checkpoints(place: &Workplace, run: &str) -> Vec<String> {
    let entries = fs::read_dir(place.path(run).join("checkpoints")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A state of the last checkpoint, as the file has it.
fn position(place: &Workplace, run: &str) -> Value {
    let state: Value = serde_json::from_slice(&bytes(place, run, "state.json")).unwrap();
    state["position"].clone()
}

/// The lines of `metrics.jsonl` of one kind, `step` or `epoch`.
fn records(place: &Workplace, run: &str, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(place.path(run).join("metrics.jsonl")).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["kind"] == kind).collect()
}

/// Losses by step.
fn losses(place: &Workplace, run: &str) -> Vec<(u64, f64)> {
    let steps = records(place, run, "step");
    steps.iter().map(|r| (r["step"].as_u64().unwrap(), r["loss"].as_f64().unwrap())).collect()
}

/// What the recipe's uninterrupted run comes to.
#[derive(PartialEq)]
struct End {
    /// SHA-256 of its tensors.
    tensors: [String; 3],
    position: Value,
    losses: Vec<(u64, f64)>,
    n_epochs: usize,
    n_rows: usize,
}

fn end(place: &Workplace, run: &str) -> End {
    let rows = fs::read_to_string(place.path(run).join("metrics.csv")).unwrap();
    End {
        tensors: TENSORS.map(|name| sha256(&bytes(place, run, name))),
        position: position(place, run),
        losses: losses(place, run),
        n_epochs: records(place, run, "epoch").len(),
        n_rows: rows.lines().count(),
    }
}

/// Holds a run against one that nothing happened to, which is made once.
#[track_caller]
fn assert_same_as_whole(place: &Workplace, run: &str) {
    static WHOLE: OnceLock<End> = OnceLock::new();
    let whole = WHOLE.get_or_init(|| {
        let place = self::place();
        assert_exit(&place.run(&fresh(&place, "whole")), 0);
        end(&place, "whole")
    });
    let found = end(place, run);
    assert_eq!(found.losses, whole.losses, "every step is recorded once, with the same loss");
    assert_eq!((found.n_epochs, found.n_rows), (3, 1 + 3), "every epoch is recorded once");
    assert_eq!(found.position, whole.position);
    for ((name, found), whole) in TENSORS.iter().zip(&found.tensors).zip(&whole.tensors) {
        assert!(found == whole, "{name} of {run} differs from that of a run that was left alone");
    }
}

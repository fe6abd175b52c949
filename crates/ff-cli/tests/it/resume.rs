//! Runs that are killed, stopped, damaged or changed, and go on.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::workplace::{Workplace, assert_exit, json, stderr};
use fs_err as fs;
use serde_json::Value;

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

fn place() -> Workplace {
    let place = Workplace::new();
    fs::write(place.path("recipe.toml"), RECIPE).unwrap();
    place
}

fn start(place: &Workplace, args: &[&str]) -> Child {
    place.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn fresh<'a>(place: &Workplace, run: &'a str) -> Vec<&'a str> {
    place.train_args(&["--batch-size", "4", "--config", "recipe.toml", "--run-dir", run])
}

fn resume(run: &str) -> [&str; 4] {
    ["train", "--resume", "--run-dir", run]
}

/// Kills the run with SIGKILL as soon as `moment` has come.
fn kill_when(mut child: Child, moment: impl Fn() -> bool) {
    while !moment() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

fn model(place: &Workplace, run: &str, name: &str) -> Vec<u8> {
    fs::read(place.path(run).join("checkpoints/last").join(name)).unwrap()
}

#[track_caller]
fn assert_same_model(place: &Workplace, a: &str, b: &str) {
    for name in ["model.safetensors", "model_ema.safetensors", "state.safetensors"] {
        assert!(model(place, a, name) == model(place, b, name), "{name} of {a} and {b} differ");
    }
}

/// Losses by step, as `metrics.jsonl` tells them.
fn losses(place: &Workplace, run: &str) -> Vec<(u64, f64)> {
    let text = fs::read_to_string(place.path(run).join("metrics.jsonl")).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let steps = records.filter(|r| r["kind"] == "step");
    steps.map(|r| (r["step"].as_u64().unwrap(), r["loss"].as_f64().unwrap())).collect()
}

/// The invariant that the project is built on, under SIGKILL: between steps, in the middle of writing a checkpoint, and
/// while the newest checkpoint is put in its place.
#[test]
fn killed_at_any_moment_and_resumed_is_the_same_bytes() {
    let place = place();
    assert_exit(&place.run(&fresh(&place, "whole")), 0);

    let (run, metrics) = (place.path("parts"), place.path("parts/metrics.jsonl"));
    kill_when(start(&place, &fresh(&place, "parts")), || {
        run.join("checkpoints/step-2.tmp/model.safetensors").exists()
    });
    kill_when(start(&place, &resume("parts")), || run.join("checkpoints/step-3.tmp").exists());
    kill_when(start(&place, &resume("parts")), || {
        lines(&metrics) >= 5 && run.join("checkpoints/last.tmp").exists()
    });
    // Half a record, as a kill in the middle of a write leaves it.
    fs::write(&metrics, fs::read_to_string(&metrics).unwrap() + "{\"kind\":\"step\",\"ste").unwrap();
    assert_exit(&place.run(&resume("parts")), 0);

    assert_same_model(&place, "whole", "parts");
    assert_eq!(losses(&place, "whole"), losses(&place, "parts"), "every step is recorded once");
    assert_eq!(lines(&metrics), 6 + 3, "six steps, three epochs");
    assert_eq!(lines(&place.path("parts/metrics.csv")), 1 + 3);
}

#[test]
fn a_damaged_checkpoint_is_refused_and_the_previous_one_goes_on() {
    let place = place();
    assert_exit(&place.run(&fresh(&place, "whole")), 0);
    let args = [&fresh(&place, "run")[..], &["--max-steps", "4"]].concat();
    assert_exit(&place.run(&args), 0);

    let newest = place.path("run/checkpoints/last/state.safetensors");
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let refused = place.run(&[&resume("run")[..], &["--max-steps", "6"]].concat());
    assert_exit(&refused, 1);
    let message = stderr(&refused);
    assert!(message.contains("last/state.safetensors: expected SHA-256"), "{message}");
    assert!(message.contains("--checkpoint step-3"), "{message}");

    let model = place.path("run/checkpoints/last/model_ema.safetensors");
    let mut bytes = fs::read(&model).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&model, bytes).unwrap();
    let evaluated = place.run(&["evaluate", "--run", "run", "--checkpoint", "last"]);
    assert_exit(&evaluated, 1);
    assert!(stderr(&evaluated).contains("model_ema.safetensors: expected SHA-256"), "{}", stderr(&evaluated));

    let args = [&resume("run")[..], &["--max-steps", "6", "--checkpoint", "step-3"]].concat();
    assert_exit(&place.run(&args), 0);
    assert_same_model(&place, "whole", "run");
}

/// A limit on the size of a file stands for the full disk: the second checkpoint fits, the optimiser's state does not.
#[test]
fn a_full_disk_costs_no_earlier_checkpoint() {
    let place = place();
    assert_exit(&place.run(&fresh(&place, "whole")), 0);
    assert_exit(&place.run(&[&fresh(&place, "run")[..], &["--max-steps", "2"]].concat()), 0);
    let program = env!("CARGO_BIN_EXE_fairface");
    let script =
        format!("trap '' XFSZ; ulimit -f 200000; exec {program} train --resume --run-dir run --max-steps 6");
    let full = Command::new("sh").args(["-c", &script]).current_dir(place.path("")).output().unwrap();
    assert_exit(&full, 1);
    assert!(stderr(&full).contains("step-3.tmp/state.safetensors"), "{}", stderr(&full));
    assert!(!place.path("run/checkpoints/step-3.tmp").exists(), "the room is given back");
    assert_exit(&place.run(&[&resume("run")[..], &["--max-steps", "6"]].concat()), 0);
    assert_same_model(&place, "whole", "run");
}

#[test]
fn two_runs_in_one_folder_are_refused() {
    let place = place();
    let args = [&fresh(&place, "run")[..], &["--epochs", "500", "--lr", "1e-6"]].concat();
    let mut child = start(&place, &args);
    while !place.path("run/checkpoints/last/state.json").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended early");
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = place.run(&resume("run"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_exit(&second, 1);
    assert!(stderr(&second).contains("another process is training in this folder"), "{}", stderr(&second));
}

#[test]
fn changes_are_named_and_unsound_ones_refused() {
    let place = place();
    assert_exit(&place.run(&[&fresh(&place, "run")[..], &["--max-steps", "1"]].concat()), 0);
    let refused = place.run(&[&resume("run")[..], &["--batch-size", "2"]].concat());
    assert_exit(&refused, 2);
    let message = stderr(&refused);
    assert!(
        message.contains("data.batch_size: expected 4") && message.contains("end of an epoch"),
        "{message}"
    );
    let changed = place.run(&[&resume("run")[..], &["--epochs", "4", "--max-steps", "2"]].concat());
    assert_exit(&changed, 0);
    assert!(stderr(&changed).contains("train.epochs: 3 -> 4"), "{}", stderr(&changed));
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert!(config.contains("epochs = 4"), "the change is kept: {config}");

    let splits = place.path("splits/ff_train.csv");
    fs::write(&splits, fs::read_to_string(&splits).unwrap().replacen("White", "Black", 1)).unwrap();
    let other_data = place.run(&resume("run"));
    assert_exit(&other_data, 1);
    assert!(stderr(&other_data).contains("expected the training split"), "{}", stderr(&other_data));
}

/// At this rate the first step throws the weights so far that the second has no finite gradient.
#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_says_where() {
    let place = Workplace::new();
    fs::write(place.path("skip.toml"), "[train]\non_non_finite = \"skip\"\n").unwrap();
    let wild = place.train_args(&["--batch-size", "4", "--lr", "1e30", "--epochs", "8"]);
    let stopped = place.run(&[&wild[..], &["--run-dir", "stops"]].concat());
    assert_exit(&stopped, 1);
    let message = stderr(&stopped);
    for expected in
        ["error: step 2: the loss is", "the gradient's norm NaN", ".jpg", "no checkpoint yet", "optimizer.lr"]
    {
        assert!(message.contains(expected), "{expected} is missing in {message}");
    }
    let skipping = place.run(&[&wild[..], &["--run-dir", "skips", "--config", "skip.toml"]].concat());
    assert_exit(&skipping, 1);
    let message = stderr(&skipping);
    assert_eq!(message.matches(" skipped: ").count(), 9, "{message}");
    assert!(message.contains("error: step 11: the loss is"), "{message}");
    assert!(message.contains("the last good checkpoint is skips/checkpoints/last"), "{message}");
}

#[test]
fn patience_ends_a_run_that_gets_no_better() {
    let place = Workplace::new();
    fs::write(place.path("patient.toml"), "[train]\npatience = 2\n").unwrap();
    let still = ["--freeze-backbone", "--lr", "1e-30", "--epochs", "9", "--config", "patient.toml", "--json"];
    let output = place.train(&[&still[..], &["--run-dir", "run"]].concat());
    assert_exit(&output, 0);
    let outcome = json(&output);
    assert_eq!((&outcome["epochs"], &outcome["stopped_early"]), (&3.into(), &true.into()));
    let again = place.run(&["train", "--resume", "--run-dir", "run", "--json"]);
    assert_exit(&again, 0);
    assert_eq!(json(&again)["epochs"], 3, "it has no patience left");
}

/// With the backbone frozen and no dropout, a batch's mean gradient is that of its halves.
#[test]
fn two_halves_accumulate_to_the_whole() {
    let place = Workplace::new();
    let config = |name: &str, accumulate: usize| {
        let text = format!(
            "[model]\ndropout = 0.0\n[optimizer]\nkind = \"sgd\"\nlr = 1e-6\naccumulate = {accumulate}\n"
        );
        fs::write(place.path(name), text).unwrap();
    };
    config("one.toml", 1);
    config("two.toml", 2);
    let common = ["--freeze-backbone", "--augment", "fastest", "--epochs", "3", "--run-dir"];
    for (run, batch, file) in [("one", "8", "one.toml"), ("two", "4", "two.toml")] {
        let args = [&common[..], &[run, "--batch-size", batch, "--config", file]].concat();
        assert_exit(&place.run(&place.train_args(&args)), 0);
    }
    let (one, two) = (losses(&place, "one"), losses(&place, "two"));
    assert_eq!((one.len(), two.len()), (3, 3));
    for ((step, a), (_, b)) in one.iter().zip(&two) {
        assert!((a - b).abs() < 1e-4 * a, "step {step}: {a} vs {b}");
    }
    assert!(one[1].1 < one[0].1, "it learns: {one:?}");
}

/// Some sums on a GPU have no fixed order, so a run that goes on there does so within rounding.
#[test]
fn resumed_on_a_gpu_is_the_same_within_rounding() {
    if std::env::var("FAIRFACE_TEST_DEVICE").as_deref() != Ok("cuda") {
        eprintln!("skipped: FAIRFACE_TEST_DEVICE=cuda asks for it, in a build with the feature cuda");
        return;
    }
    let place = Workplace::new();
    let common = ["--device", "cuda", "--epochs", "3", "--run-dir"];
    assert_exit(&place.train(&[&common[..], &["whole"]].concat()), 0);
    assert_exit(&place.train(&[&common[..], &["parts", "--max-steps", "3"]].concat()), 0);
    assert_exit(&place.run(&[&resume("parts")[..], &["--max-steps", "6"]].concat()), 0);
    let (whole, parts) = (losses(&place, "whole"), losses(&place, "parts"));
    assert_eq!(whole.len(), parts.len());
    for ((step, a), (_, b)) in whole.iter().zip(&parts) {
        assert!((a - b).abs() < 0.03 * a, "step {step}: {a} vs {b}");
    }
}

/// Frozen for one epoch of one is frozen; of two, it is not.
#[test]
fn a_backbone_thaws_after_its_epochs() {
    let place = Workplace::new();
    fs::write(place.path("thaw.toml"), "[model]\nfreeze_epochs = 1\n").unwrap();
    assert_exit(&place.train(&["--freeze-backbone", "--epochs", "1", "--run-dir", "frozen"]), 0);
    for (epochs, run) in [("1", "one"), ("2", "two")] {
        assert_exit(&place.train(&["--config", "thaw.toml", "--epochs", epochs, "--run-dir", run]), 0);
    }
    let name = "model.safetensors";
    assert!(model(&place, "frozen", name) == model(&place, "one", name));
    let backbone = |run: &str| {
        let bytes = model(&place, run, name);
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        file.tensor("backbone.layer1.0.conv1.weight").unwrap().data().to_vec()
    };
    assert!(backbone("one") != backbone("two"));
}

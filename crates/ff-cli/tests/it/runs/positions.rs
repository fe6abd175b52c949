//! Where a run stands, and what may change when it goes on.

use std::os::unix::process::ExitStatusExt;

use fs_err as fs;

use super::{checkpoints, fresh, losses, place, position, records, resume, with_fault};
use crate::workplace::{Workplace, assert_exit, json, stderr};

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

/// The run's length was its epochs times the new number of steps, beside a count of old ones: it ended at once.
#[test]
fn a_batch_size_that_changes_between_epochs_leaves_the_run_its_epochs() {
    let place = Workplace::new();
    let short = ["--freeze-backbone", "--epochs", "2", "--max-steps", "2", "--run-dir", "run"];
    assert_exit(&place.train(&short), 0);
    let resumed =
        place.run(&[&resume("run")[..], &["--batch-size", "8", "--max-steps", "99", "--json"]].concat());
    assert_exit(&resumed, 0);
    let outcome = json(&resumed);
    assert_eq!(
        (&outcome["steps"], &outcome["epochs"]),
        (&3.into(), &2.into()),
        "two steps, and one of twice the size"
    );
}

/// Half an epoch moved `best` and patience.
#[test]
fn an_epoch_that_max_steps_cuts_short_is_evaluated_and_no_candidate_for_the_best() {
    let place = Workplace::new();
    let args = ["--freeze-backbone", "--epochs", "3", "--max-steps", "1", "--run-dir", "run"];
    assert_exit(&place.train(&args), 0);
    assert_eq!(records(&place, "run", "epoch")[0]["best"], false);
    let found = position(&place, "run");
    assert_eq!((&found["best"], &found["epochs_since_best"]), (&serde_json::Value::Null, &0.into()));
    assert_eq!((&found["epoch"], &found["evaluated"]), (&0.into(), &true.into()));
    assert_eq!(checkpoints(&place, "run"), ["last", "step-0", "step-1"]);
    // Whoever asks for the best gets the last, as long as no epoch is whole.
    assert_exit(&place.run(&["evaluate", "--run", "run"]), 0);
    assert_exit(&place.run(&[&resume("run")[..], &["--max-steps", "2"]].concat()), 0);
    assert_eq!(
        records(&place, "run", "epoch").len(),
        1,
        "the whole epoch's record replaces that of its half"
    );
    assert_eq!(position(&place, "run")["best_step"], 2);
}

/// Nothing was said, and nothing was trained.
#[test]
fn more_epochs_than_max_steps_leaves_room_for_are_refused() {
    let place = Workplace::new();
    assert_exit(
        &place.train(&["--freeze-backbone", "--epochs", "1", "--max-steps", "1", "--run-dir", "run"]),
        0,
    );
    let refused = place.run(&[&resume("run")[..], &["--epochs", "2"]].concat());
    assert_exit(&refused, 2);
    let expected = "error: train.max_steps: expected more than the 1 steps that the run has taken, found 1";
    assert!(stderr(&refused).contains(expected), "{}", stderr(&refused));
    let same = place.run(&resume("run"));
    assert_exit(&same, 0);
    let expected = "nothing is left to train: train.max_steps is 1, and the run has taken them";
    assert!(stderr(&same).contains(expected), "{}", stderr(&same));
    let longer = place.run(&[&resume("run")[..], &["--epochs", "2", "--max-steps", "4", "--json"]].concat());
    assert_exit(&longer, 0);
    assert_eq!(json(&longer)["steps"], 4);
}

/// `last` and `best` stayed those of the future that was left, and a kill returned to it; and what was newer had gone
/// before anything was trained.
#[test]
fn an_earlier_checkpoint_is_the_present_from_then_on() {
    let place = place();
    let args = [&fresh(&place, "run")[..], &["--max-steps", "4"]].concat();
    assert_exit(&place.run(&args), 0);
    let (before, metrics) = (checkpoints(&place, "run"), losses(&place, "run"));
    let earlier =
        [&resume("run")[..], &["--checkpoint", "step-3", "--lr", "0.01", "--max-steps", "5"]].concat();
    assert_eq!(with_fault(&place, &earlier, "kill@step").status.signal(), Some(9));
    assert_eq!((checkpoints(&place, "run"), losses(&place, "run")), (before, metrics), "nothing is gone yet");
    assert_eq!(position(&place, "run")["step"], 3);
    let mistaken = [&resume("run")[..], &["--checkpoint", "step-4"]].concat();
    assert_eq!(with_fault(&place, &mistaken, "kill@step").status.signal(), Some(9));
    assert_eq!(position(&place, "run")["step"], 4, "there is a way back");

    assert_exit(&place.run(&earlier), 0);
    assert_eq!(checkpoints(&place, "run"), ["best", "last", "step-4", "step-5"]);
    assert_eq!(losses(&place, "run").len(), 5);
    let found = position(&place, "run");
    assert_eq!(found["step"], 5);
    let best: serde_json::Value =
        serde_json::from_slice(&fs::read(place.path("run/checkpoints/best/state.json")).unwrap()).unwrap();
    assert_eq!(best["position"]["step"], found["best_step"], "the best is of this present");
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
    for expected in [
        "error: step 2: the loss is",
        "the gradient's norm NaN",
        ".jpg",
        "stops/checkpoints/step-0",
        "optimizer.lr",
    ] {
        assert!(message.contains(expected), "{expected} is missing in {message}");
    }
    let skipping = place.run(&[&wild[..], &["--run-dir", "skips", "--config", "skip.toml"]].concat());
    assert_exit(&skipping, 1);
    let message = stderr(&skipping);
    assert_eq!(message.matches(" skipped: ").count(), 9, "{message}");
    assert!(message.contains("error: step 11: the loss is"), "{message}");
    assert!(message.contains("the last good checkpoint is skips/checkpoints/step-"), "{message}");
}

/// A last step that threw the weights away was the best epoch and the last good checkpoint.
#[test]
fn a_run_that_diverges_in_its_last_step_leaves_the_checkpoint_before() {
    let place = Workplace::new();
    let args = ["--batch-size", "8", "--epochs", "1", "--lr", "1e39", "--run-dir", "run"];
    fs::write(place.path("often.toml"), "[run]\ncheckpoint_steps = 1\n").unwrap();
    let diverged = place.run(&place.train_args(&[&args[..], &["--config", "often.toml"]].concat()));
    assert_exit(&diverged, 1);
    let message = stderr(&diverged);
    for expected in ["has values that are not finite", "the last good checkpoint is run/checkpoints/step-0"] {
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(checkpoints(&place, "run"), ["last", "step-0"]);
}

/// A run was tied to the folder that it was started in.
#[test]
fn a_run_goes_on_from_any_folder() {
    let place = Workplace::new();
    let args = ["--freeze-backbone", "--epochs", "1", "--max-steps", "1", "--run-dir", "run"];
    assert_exit(&place.train(&args), 0);
    fs::create_dir(place.path("elsewhere")).unwrap();
    let mut command =
        place.command(&["train", "--resume", "--run-dir", "../run", "--max-steps", "2", "--json"]);
    let resumed = command.current_dir(place.path("elsewhere")).output().unwrap();
    assert_exit(&resumed, 0);
    assert_eq!(json(&resumed)["steps"], 2);
    let changes: Vec<_> =
        stderr(&resumed).lines().filter(|l| l.contains("differs")).map(str::to_owned).collect();
    assert_eq!(changes.len(), 1, "{changes:?}");
    let provenance: serde_json::Value =
        serde_json::from_slice(&fs::read(place.path("run/run.json")).unwrap()).unwrap();
    assert_eq!(provenance["resumed"][0]["changes"], serde_json::json!(["train.max_steps: 1 -> 2"]));
    assert_eq!(provenance["resumed"][0]["step"], 1);
}

/// The commit was that of the current folder, whatever repository that is.
#[test]
fn the_commit_is_the_programs() {
    let place = Workplace::new();
    let git = |args: &[&str], dir: &std::path::Path| {
        let output = std::process::Command::new("git").args(args).current_dir(dir).output();
        output.ok().filter(|output| output.status.success())
    };
    let Some(_) = git(&["init", "--quiet"], &place.path("")) else { return };
    let author = ["-c", "user.name=x", "-c", "user.email=x", "commit", "--quiet", "--allow-empty", "-m", "x"];
    assert!(git(&author, &place.path("")).is_some());
    let foreign = git(&["rev-parse", "HEAD"], &place.path("")).unwrap().stdout;
    let foreign = String::from_utf8(foreign).unwrap();
    let args = ["--freeze-backbone", "--epochs", "1", "--max-steps", "1", "--run-dir", "run"];
    assert_exit(&place.train(&args), 0);
    let provenance = fs::read_to_string(place.path("run/run.json")).unwrap();
    assert!(!provenance.contains(foreign.trim()), "{provenance}");
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

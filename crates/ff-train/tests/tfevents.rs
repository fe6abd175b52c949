//! Event files as TensorBoard's own Python package reads them; skipped where there is none.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(clippy::print_stderr, reason = "a test says what it skips")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use ff_train::run::tfevents::EventWriter;

/// What TensorBoard shows: (step, value) a tag. `None` without the package.
fn as_tensorboard_reads(dir: &Path) -> Option<BTreeMap<String, Vec<(u64, f64)>>> {
    let python = std::env::var("FAIRFACE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_package = Command::new(&python).args(["-c", "import tensorboard"]).output();
    if !has_package.is_ok_and(|output| output.status.success()) {
        eprintln!(
            "skipped: {python} has no package tensorboard; FAIRFACE_PYTHON chooses another interpreter"
        );
        return None;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tfevents_read.py");
    let output = Command::new(python).arg(script).arg(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn a_resumed_run_shows_every_step_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = EventWriter::create(dir.path(), 1).unwrap();
    for step in 1..=6 {
        first.scalars(step, &[("train/loss", 6.0 - step as f64), ("train/lr", 0.5)]).unwrap();
    }
    first.scalars(6, &[("val/age/accuracy", 0.25)]).unwrap();
    drop(first);
    // The checkpoint was at step 3: steps 4 to 6 come again, with other values here to tell them apart.
    let mut second = EventWriter::create(dir.path(), 4).unwrap();
    for step in 4..=8 {
        second.scalars(step, &[("train/loss", 100.0 + step as f64)]).unwrap();
    }
    second.flush().unwrap();
    let Some(scalars) = as_tensorboard_reads(dir.path()) else { return };
    let losses = [5.0, 4.0, 3.0, 104.0, 105.0, 106.0, 107.0, 108.0];
    assert_eq!(scalars["train/loss"], (1..).zip(losses).collect::<Vec<_>>());
    assert_eq!(scalars["train/lr"], [(1, 0.5), (2, 0.5), (3, 0.5)]);
    assert!(scalars.get("val/age/accuracy").is_none_or(Vec::is_empty), "{scalars:?}");
}

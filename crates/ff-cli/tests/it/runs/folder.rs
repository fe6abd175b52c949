//! A run folder in every state that it may be found in, and what is said of it.

use std::path::Path;

use fs_err as fs;

use super::{bytes, resume, start_and_wait};
use crate::workplace::{Workplace, assert_exit};

/// What `train --resume` says of the folder: its error, or nothing.
fn said(place: &Workplace) -> String {
    let output = place.run(&resume("run"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let error = text.lines().find_map(|line| line.strip_prefix("error: "));
    assert_eq!(error.is_some(), output.status.code() == Some(1), "{text}");
    error.unwrap_or("").replace(&*place.path("").to_string_lossy(), "")
}

/// Each file of a run folder is taken away in turn.
#[test]
fn each_file_that_is_missing_is_named() {
    let place = Workplace::new();
    let args = ["--freeze-backbone", "--epochs", "1", "--max-steps", "1", "--run-dir", "run"];
    assert_exit(&place.train(&args), 0);
    let missing = "failed to open file `run/checkpoints/last";
    let no_file = "No such file or directory (os error 2)";
    let advice = "step-1 is whole; resume from the checkpoint step-1";
    let model = "model.safetensors`: ";
    for (file, expected) in [
        ("config.toml", "run: expected a run folder with config.toml, found none".to_owned()),
        ("run.json", String::new()),
        ("run.lock", String::new()),
        ("metrics.jsonl", String::new()),
        ("metrics.csv", String::new()),
        ("report.html", String::new()),
        (
            "checkpoints",
            "run: run/checkpoints/last: expected a checkpoint with state.json, found none; no other checkpoint is whole"
                .to_owned(),
        ),
        (
            "checkpoints/last",
            format!("run: run/checkpoints/last: expected a checkpoint with state.json, found none; {advice}"),
        ),
        (
            "checkpoints/last/state.json",
            format!("run: run/checkpoints/last: expected a checkpoint with state.json, found none; {advice}"),
        ),
        ("checkpoints/last/model.safetensors", format!("run: {missing}/{model}{no_file}; {advice}")),
        ("checkpoints/last/state.safetensors", format!("run: {missing}/state.safetensors`: {no_file}; {advice}")),
        ("checkpoints/step-1", String::new()),
    ] {
        let (path, aside) = (place.path("run").join(file), place.path("aside"));
        fs::rename(&path, &aside).unwrap();
        assert_eq!(said(&place), expected, "without {file}");
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        }
        fs::rename(&aside, &path).unwrap();
    }
    assert_eq!(said(&place), "", "all is back");
}

#[test]
fn a_folder_that_is_in_use_newer_edited_or_read_only_is_refused_in_words() {
    let place = Workplace::new();
    let args = ["--freeze-backbone", "--epochs", "1", "--max-steps", "1", "--run-dir", "run"];
    assert_exit(&place.train(&args), 0);
    let state = place.path("run/checkpoints/last/state.json");
    let text = String::from_utf8(bytes(&place, "run", "state.json")).unwrap();
    let advice = "step-1 is whole; resume from the checkpoint step-1";
    let refused = |text: &str| {
        // Not in place: step-1 has the same file.
        fs::remove_file(&state).unwrap();
        fs::write(&state, text).unwrap();
        said(&place)
    };
    assert_eq!(
        refused("{\"format\": 9, \"of\": \"tomorrow\"}"),
        format!(
            "run: run/checkpoints/last/state.json: expected format 2 to 3, found 9: a newer version of this program wrote \
             it; {advice}"
        )
    );
    // It looped for ever, waiting for the epoch's last batch.
    let edited = refused(&text.replace("\"batch\": 1", "\"batch\": 7"));
    assert!(edited.contains("state.json: expected SHA-256") && edited.ends_with(advice), "{edited}");
    let cut_off = refused(&text[..text.len() / 2]);
    assert!(cut_off.contains("state.json: EOF while parsing") && cut_off.ends_with(advice), "{cut_off}");
    refused(&text);

    let waiting = start_and_wait(&place, &[&resume("run")[..], &["--max-steps", "2"]].concat(), "wait@step");
    assert_eq!(
        said(&place),
        "run: another process is training in this folder; wait for it, or choose another folder"
    );
    waiting.kill();

    set_read_only(&place.path("run"), true);
    let found = said(&place);
    set_read_only(&place.path("run"), false);
    // The superuser writes everywhere.
    if !found.is_empty() {
        assert!(found.contains("Permission denied"), "{found}");
    }
    assert_eq!(said(&place), "", "and it goes on when it may");
}

fn set_read_only(path: &Path, read_only: bool) {
    use std::os::unix::fs::PermissionsExt;
    for path in [path.join("run.lock"), path.to_owned()] {
        let mode = if read_only { 0o555 } else { 0o755 };
        fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

//! A run that version 0.1 began, in `version-0.1/` as that version's program left it (commit 3ef4d39).
//!
//! It was killed before its first step, so that its weights are the initial ones: they need not lie here, as this
//! version makes the same from the same seed. `expected.jsonl` is what version 0.1 recorded of the same run when it was
//! left alone. Paths were replaced by `SPLITS`, `IMAGES` and `CACHE`.

use std::path::{Path, PathBuf};

use fs_err as fs;
use serde_json::Value;

use super::{records, with_fault};
use crate::workplace::{Workplace, assert_exit, json, sample};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/runs/version-0.1").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(fixture(name)).unwrap()
}

/// The run's folder, with the initial weights of this version.
fn place() -> Workplace {
    let place = Workplace::new();
    let run = place.path("run");
    for folder in ["checkpoints/last", "checkpoints/step-0", "evaluation"] {
        fs::create_dir_all(run.join(folder)).unwrap();
    }
    let config = read("config.toml")
        .replace("SPLITS", &place.path("splits").to_string_lossy())
        .replace("IMAGES", &sample().join("images").to_string_lossy())
        .replace("CACHE", &place.path("cache").to_string_lossy());
    fs::write(run.join("config.toml"), config).unwrap();
    fs::write(run.join("run.json"), read("run.json")).unwrap();
    let evaluation = "evaluation/val-last-bootstrap-20.json";
    fs::write(run.join(evaluation), read(evaluation)).unwrap();

    let began = place.train_args(&["--batch-size", "4", "--init", "random", "--run-dir", "today"]);
    assert!(with_fault(&place, &began, "kill@step:1").status.code().is_none());
    for name in ["last", "step-0"] {
        let checkpoint = run.join("checkpoints").join(name);
        let weights = "checkpoints/step-0/model.safetensors";
        fs::copy(place.path("today").join(weights), checkpoint.join("model.safetensors")).unwrap();
        fs::write(checkpoint.join("state.json"), read("state.json")).unwrap();
    }
    place
}

/// The checkpoint's hash is version 0.1's: so initial values, names and bytes of a model file are what they were.
#[test]
fn a_run_of_version_0_1_opens_evaluates_and_goes_on() {
    let place = place();
    let evaluated =
        place.run(&["evaluate", "--run", "run", "--checkpoint", "last", "--bootstrap", "20", "--json"]);
    assert_exit(&evaluated, 0);
    let (found, expected) =
        (json(&evaluated), serde_json::from_str::<Value>(&read("evaluation/val-last-bootstrap-20.json")));
    let expected = expected.unwrap();
    for key in ["n", "labels", "display_order", "confusion", "bootstrap"] {
        assert_eq!(found[key], expected[key], "{key}");
    }
    let groups = |record: &Value| {
        let groups = record["groups"].as_array().unwrap().iter();
        groups
            .map(|group| (group["by"].clone(), group["group"].clone(), group["n"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(groups(&found), groups(&expected));

    assert_exit(&place.run(&["report", "--run", "run"]), 0);
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(page.contains("val-last-bootstrap-20") && page.contains("Suspected label errors"));

    assert_exit(&place.run(&["train", "--resume", "--run-dir", "run"]), 0);
    let losses = |records: &[Value]| -> Vec<f64> {
        records
            .iter()
            .filter(|record| record["kind"] == "step")
            .map(|record| record["loss"].as_f64().unwrap())
            .collect()
    };
    let expected: Vec<Value> =
        read("expected.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (found, expected) = (losses(&records(&place, "run", "step")), losses(&expected));
    assert_eq!(found.len(), expected.len());
    // Other instruction sets add up in another order.
    let near = found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-3 * b);
    assert!(near, "{found:?}, and version 0.1 had {expected:?}");
}

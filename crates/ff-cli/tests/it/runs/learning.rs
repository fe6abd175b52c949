//! Runs and what they learn: accumulation, frozen epochs, patience, and who is not to matter.

use fs_err as fs;

use super::{bytes, losses};
use crate::workplace::{Workplace, assert_exit, json};

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
    assert!(bytes(&place, "frozen", name) == bytes(&place, "one", name));
    let backbone = |run: &str| {
        let bytes = bytes(&place, run, name);
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        file.tensor("backbone.layer1.0.conv1.weight").unwrap().data().to_vec()
    };
    assert!(backbone("one") != backbone("two"));
}

#[test]
fn the_number_of_workers_changes_no_byte() {
    let place = Workplace::new();
    for workers in ["1", "2", "4"] {
        let args = place.train_args(&["--batch-size", "4", "--epochs", "1", "--run-dir", workers]);
        let args: Vec<&str> = args.iter().map(|arg| if *arg == "2" { workers } else { arg }).collect();
        assert_exit(&place.run(&args), 0);
    }
    for name in ["model.safetensors", "state.safetensors"] {
        let of_one = bytes(&place, "1", name);
        assert!(["2", "4"].iter().all(|workers| bytes(&place, workers, name) == of_one), "{name}");
    }
}

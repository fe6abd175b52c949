//! `evaluate` on a run of one step: the record that it prints and saves, and the tables.

use fs_err as fs;
use serde_json::Value;

use crate::workplace::{Workplace, assert_exit, json, sample, stderr};

/// A run of one step, and a test split of three faces with a column `service_test` that is true for two.
fn place_with_a_run() -> Workplace {
    let place = Workplace::new();
    assert_exit(&place.train(&["--freeze-backbone", "--max-steps", "1", "--run-dir", "run"]), 0);
    let csv = place.path("splits/ff_test.csv");
    let text = fs::read_to_string(&csv).unwrap();
    let columns = ["service_test", "True", "False", "True"];
    let rows = text.lines().zip(columns).map(|(row, value)| format!("{row},{value}\n"));
    fs::write(&csv, rows.collect::<String>()).unwrap();
    place
}

/// The record that `evaluate --run run --split test --json` and `args` print.
#[track_caller]
fn evaluate(place: &Workplace, args: &[&str]) -> Value {
    let output = place.run(&[&["evaluate", "--run", "run", "--split", "test", "--json"], args].concat());
    assert_exit(&output, 0);
    json(&output)
}

fn saved(place: &Workplace, name: &str) -> Value {
    serde_json::from_slice(&fs::read(place.path("run/evaluation").join(name)).unwrap()).unwrap()
}

#[test]
fn the_record_is_printed_and_saved_with_all_that_a_report_needs() {
    let place = place_with_a_run();
    let record =
        evaluate(&place, &["--group-by", "race,gender", "--calibrate", "--tta", "flip", "--bootstrap", "50"]);
    let name = "test-flip-calibrated-bootstrap-50.json";
    assert_eq!(record, saved(&place, name));
    assert_eq!((&record["n"], &record["source"]["tta"]), (&3.into(), &"flip".into()));
    assert_eq!(record["display_order"]["age"], serde_json::json!([1, 0]), "3-9 before 20-29");

    let groups = record["groups"].as_array().unwrap();
    for (by, n_groups) in [("race", 2), ("gender", 2), ("race,gender", 4)] {
        let of_grouping: Vec<_> = groups.iter().filter(|group| group["by"] == by).collect();
        assert_eq!(of_grouping.len(), n_groups, "{by}");
        assert_eq!(of_grouping.iter().map(|group| group["n"].as_u64().unwrap()).sum::<u64>(), 3, "{by}");
        assert!(of_grouping.iter().all(|group| group["small"] == true));
    }
    let by_race = &record["disparities"][0];
    assert_eq!((&by_race["by"], &by_race["over"]), (&"race".into(), &"all".into()));
    assert!(by_race["tasks"]["race"]["parity_and_odds"].is_null(), "race by race");
    let parity = &by_race["tasks"]["gender"]["parity_and_odds"]["demographic_parity_difference"];
    assert!(parity["value"].is_f64() && parity["interval"][1].is_f64(), "{parity}");

    assert_eq!(record["calibration"]["n"], 5, "fitted on the validation split");
    for task in ["age", "gender", "race"] {
        assert!(record["calibration"]["tasks"][task]["temperature"].as_f64().unwrap() > 0.0);
        let wrong = (1.0 - record["tasks"][task]["accuracy"].as_f64().unwrap()) * 3.0;
        assert_eq!(record["mistakes"][task].as_array().unwrap().len(), wrong.round() as usize);
        assert_eq!(record["reliability"][task].as_array().unwrap().len(), 15);
        assert!(record["label_errors"][task]["suspects"].is_array());
    }
    let plain = evaluate(&place, &["--no-save"]);
    assert_ne!(plain["tasks"]["age"]["nll"], record["tasks"]["age"]["nll"], "mirror images count");
    assert!(plain["calibration"].is_null());
    assert!(!place.path("run/evaluation/test.json").exists(), "--no-save saves nothing");
}

#[test]
fn a_subset_has_a_record_of_its_own_and_a_wrong_one_says_so() {
    let place = place_with_a_run();
    let record = evaluate(&place, &["--subset", "service_test"]);
    assert_eq!((&record["n"], &record["source"]["subset"]), (&2.into(), &"service_test".into()));
    assert_eq!(record, saved(&place, "test-service_test.json"));
    let output = place.run(&["evaluate", "--run", "run", "--split", "test", "--subset", "service"]);
    assert_exit(&output, 1);
    let message = stderr(&output);
    assert!(message.contains("expected such a column, found [service_test]"), "{message}");
}

#[test]
fn people_get_tables_and_a_warning_where_temperatures_judge_themselves() {
    let place = place_with_a_run();
    let output = place.run(&["evaluate", "--run", "run", "--group-by", "race,age", "--calibrate"]);
    assert_exit(&output, 0);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    for expected in [
        "5 samples",
        "temperature scaling, fitted on 5 samples of ",
        "splits/ff_val.csv\n",
        "accuracy by race, with 95 % intervals",
        "Black (small)",
        "White / 3-9 (small)",
        "largest differences by race,age, small groups included",
        "suspected labels: age",
    ] {
        assert!(stdout.contains(expected), "{expected} is missing in\n{stdout}");
    }
    let stderr = stderr(&output);
    assert!(
        stderr.contains("take another split")
            && stderr.contains("run/evaluation/val-calibrated-by-race+age.json"),
        "{stderr}"
    );
}

/// The record of one file replaced that of another of the same name, and that of the split.
#[test]
fn evaluations_of_other_files_and_options_stand_beside_each_other_in_the_report() {
    let place = place_with_a_run();
    fs::create_dir(place.path("other")).unwrap();
    fs::copy(place.path("splits/ff_test.csv"), place.path("other/val.csv")).unwrap();
    fs::copy(place.path("splits/ff_val.csv"), place.path("val.csv")).unwrap();
    for args in [&[][..], &["--csv", "val.csv"], &["--csv", "other/val.csv"], &["--tta", "flip"]] {
        assert_exit(&place.run(&[&["evaluate", "--run", "run", "--bootstrap", "1000"], args].concat()), 0);
    }
    let report: Value = serde_json::from_slice(&fs::read(place.path("run/report.json")).unwrap()).unwrap();
    let audits = report["audits"].as_array().unwrap();
    let mut samples: Vec<_> = audits.iter().map(|audit| audit["n"].as_u64().unwrap()).collect();
    samples.sort_unstable();
    assert_eq!(samples, [3, 5, 5, 5], "{:?}", audits.iter().map(|audit| &audit["name"]).collect::<Vec<_>>());
}

/// Temperatures of a file from elsewhere were fitted on the bundled sample, without a word.
#[test]
fn a_file_of_weights_is_calibrated_on_data_of_its_own_or_not_at_all() {
    let place = place_with_a_run();
    let images = sample().join("images");
    let weights = "run/checkpoints/last/model.safetensors";
    let args = [
        "evaluate",
        "--weights",
        weights,
        "--csv",
        "splits/ff_test.csv",
        "--images",
        images.to_str().unwrap(),
    ];
    let refused = place.run(&[&args[..], &["--calibrate"]].concat());
    assert_exit(&refused, 2);
    let message = stderr(&refused);
    assert!(
        message.contains("no validation split to fit temperatures on")
            && message.contains("--calibrate-on FILE")
    );
    let fitted = place.run(&[&args[..], &["--calibrate-on", "splits/ff_val.csv", "--json"]].concat());
    assert_exit(&fitted, 0);
    let calibration = &json(&fitted)["calibration"];
    assert_eq!((&calibration["fitted_on"], &calibration["n"]), (&"splits/ff_val.csv".into(), &5.into()));
}

/// All images broken and passed over read as 0.0 % right, with exit code 0.
#[test]
fn an_evaluation_of_which_every_image_is_skipped_is_a_failure() {
    let place = Workplace::new();
    fs::write(place.path("skip.toml"), "[data]\non_bad_image = \"skip\"\n").unwrap();
    let args = ["--config", "skip.toml", "--freeze-backbone", "--max-steps", "1", "--run-dir", "run"];
    assert_exit(&place.train(&args), 0);
    let rows = fs::read_to_string(place.path("splits/ff_val.csv")).unwrap();
    for file in rows.lines().skip(1).map(|row| place.path("broken").join(row.split(',').next().unwrap())) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "no image").unwrap();
    }
    let output = place.run(&["evaluate", "--run", "run", "--images", "broken"]);
    assert_exit(&output, 1);
    let message = stderr(&output);
    assert!(message.contains("expected samples to evaluate, found none of 5 that can be used"), "{message}");
    assert!(!place.path("run/evaluation").exists());
}

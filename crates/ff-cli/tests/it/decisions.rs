//! Decisions about faces go into splits, into a run and into its evaluation, and are the same ones later.

use fs_err as fs;

use crate::workplace::{Workplace, assert_exit, json, sample, stderr};

const HEADER: &str = "file,decision,task,label\n";

/// The files that a split's CSV names.
fn files(place: &Workplace, csv: &str) -> Vec<String> {
    let text = fs::read_to_string(place.path(csv)).unwrap();
    text.lines().skip(1).map(|row| row.split(',').next().unwrap().to_owned()).collect()
}

#[test]
fn a_run_is_trained_and_evaluated_under_decisions_and_goes_on_under_no_others() {
    let place = Workplace::new();
    let (train, val) = (files(&place, "splits/ff_train.csv"), files(&place, "splits/ff_val.csv"));
    let text = format!("{HEADER}{},relabel,race,White\n{},keep,,\n{},drop,,\n", train[0], train[1], val[0]);
    fs::write(place.path("decisions.csv"), &text).unwrap();
    let args = ["--init", "random", "--backbone", "resnet18", "--image-size", "64", "--freeze-backbone"];
    let decided = ["--max-steps", "1", "--run-dir", "run", "--decisions", "decisions.csv"];
    let output = place.train(&[&args[..], &decided].concat());
    assert_exit(&output, 0);
    assert!(
        stderr(&output).contains("decisions.csv: 3 decisions: 1 rows dropped, 1 relabelled"),
        "{}",
        stderr(&output)
    );
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(place.path("run/run.json")).unwrap()).unwrap();
    assert_eq!((&record["data"]["train"]["rows"], &record["data"]["val"]["rows"]), (&8.into(), &4.into()));
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    let digest = format!("decisions_sha256 = \"{}\"", ff_core::files::sha256(text.as_bytes()));
    assert!(config.contains(&digest), "{config}");

    let evaluation = place.run(&["evaluate", "--run", "run", "--split", "val", "--json"]);
    assert_exit(&evaluation, 0);
    assert_eq!(json(&evaluation)["n"], 4, "the dropped face is not in it");

    // The file is another one by now: nothing goes on as if it were the same.
    fs::write(place.path("decisions.csv"), format!("{text}{},drop,,\n", val[1])).unwrap();
    let resume = ["train", "--resume", "--run-dir", "run", "--max-steps", "2"];
    for args in [&resume[..], &["evaluate", "--run", "run", "--split", "val"]] {
        let refused = place.run(args);
        assert_exit(&refused, 1);
        let expected = "decisions.csv: expected the decisions that were taken before, of SHA-256 ";
        assert!(stderr(&refused).contains(expected), "{}", stderr(&refused));
    }
    // Named anew they are taken, as far as the run can go on with them: they leave the training split alone.
    let named = place.run(&[&resume[..], &["--decisions", "decisions.csv"]].concat());
    assert_exit(&named, 0);
    assert!(
        stderr(&named).contains("differs from the run so far: data.decisions_sha256"),
        "{}",
        stderr(&named)
    );
}

#[test]
fn bad_decisions_are_refused_before_a_run_folder_is_made() {
    let place = Workplace::new();
    let train = files(&place, "splits/ff_train.csv");
    for (rows, expected) in [
        ("nobody.jpg,drop,,\n".to_owned(), "ff_test.csv, found \"nobody.jpg\""),
        (
            format!("{},relabel,race,Whit\n", train[0]),
            "decisions.csv:2: expected a label of race: Black or White, found \"Whit\": did you mean \"White\"?",
        ),
        (
            format!("{},dorp,,\n", train[0]),
            "decisions.csv:2: column decision: expected keep, drop or relabel",
        ),
    ] {
        fs::write(place.path("decisions.csv"), format!("{HEADER}{rows}")).unwrap();
        let output = place.train(&["--init", "random", "--decisions", "decisions.csv"]);
        assert_exit(&output, 1);
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
    let output = place.train(&["--init", "random", "--decisions", "nowhere.csv"]);
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("nowhere.csv"), "{}", stderr(&output));
    assert!(!place.path("runs").exists());
}

#[test]
fn split_and_audit_take_decisions() {
    let place = Workplace::new();
    let train = files(&place, "splits/ff_train.csv");
    fs::write(
        place.path("decisions.csv"),
        format!("{HEADER}{},drop,,\n{},relabel,race,White\n", train[1], train[0]),
    )
    .unwrap();
    let split = [
        "split",
        "--json",
        "--labels",
        "splits/ff_train.csv",
        "--out",
        "out",
        "--decisions",
        "decisions.csv",
    ];
    let outcome = place.run(&split);
    assert_exit(&outcome, 0);
    let outcome = json(&outcome);
    assert_eq!(outcome["decided"], serde_json::json!({"dropped": 1, "relabelled": 1}));
    assert_eq!((&outcome["rows"], &outcome["duplicates_removed"]), (&8.into(), &0.into()));
    let out: String = ["train", "val", "test"]
        .map(|name| fs::read_to_string(place.path(&format!("out/ff_{name}.csv"))).unwrap())
        .concat();
    assert!(!out.contains(&train[1]) && out.contains(&format!("{},20-29,Female,White", train[0])), "{out}");

    let images = sample().join("images");
    let audit = ["audit", "--json", "--splits", "splits", "--images", images.to_str().unwrap()];
    let whole = json(&place.run(&audit));
    let decided = json(&place.run(&[&audit[..], &["--decisions", "decisions.csv"]].concat()));
    assert_eq!((&whole["images"], &decided["images"]), (&16.into(), &15.into()));
}

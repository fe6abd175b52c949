//! Gates of continuous integration: exit code 3 when something is not as required, and nothing else changes.

use fs_err as fs;

use crate::workplace::{Workplace, assert_exit, json, sample, stderr};

/// Of 60 faces 45 are right, 15 of them in each of two groups.
fn place() -> Workplace {
    let place = Workplace::new();
    let mut table = "file,gender,gender_pred,camera\n".to_owned();
    for i in 0..60 {
        let truth = ["Female", "Male"][i % 2];
        let predicted = if i % 4 == 0 { "Male" } else { truth };
        table += &format!("{i}.jpg,{truth},{predicted},{}\n", ["A", "B"][i / 30]);
    }
    fs::write(place.path("both.csv"), table).unwrap();
    fs::write(place.path("schema.toml"), "[[tasks]]\nname = \"gender\"\n").unwrap();
    place
}

const EVALUATE: [&str; 11] = [
    "evaluate",
    "--predictions",
    "both.csv",
    "--labels",
    "both.csv",
    "--schema",
    "schema.toml",
    "--group-by",
    "camera",
    "--bootstrap",
    "100",
];

#[test]
fn a_requirement_that_is_not_met_is_exit_code_3_and_one_that_cannot_be_read_2() {
    let place = place();
    let run = |more: &[&str]| place.run(&[&EVALUATE[..], more].concat());
    assert_exit(&run(&[]), 0);
    assert_exit(
        &run(&["--require", "gender.accuracy>=0.75", "--require", "gender.accuracy_gap[camera]<=0.2"]),
        0,
    );
    let output = run(&[
        "--require",
        "gender.accuracy>=0.76",
        "--require",
        "gender.accuracy@lower>=0.6",
        "--junit",
        "gate.xml",
        "--json",
    ]);
    assert_exit(&output, 3);
    let found = json(&output);
    let requirements = found["requirements"].as_array().unwrap();
    assert_eq!((&requirements[0]["met"], &requirements[1]["met"]), (&false.into(), &true.into()));
    assert_eq!((&requirements[0]["value"], &requirements[0]["n"]), (&0.75.into(), &60.into()));
    assert!((requirements[0]["margin"].as_f64().unwrap() + 0.01).abs() < 1e-12);
    let xml = fs::read_to_string(place.path("gate.xml")).unwrap();
    assert!(xml.contains("tests=\"2\" failures=\"1\"") && xml.contains("gender.accuracy&gt;=0.76"), "{xml}");

    // The bounds may stand in a file, which may be the schema's.
    fs::write(place.path("gates.toml"), "[require]\n\"gender.accuracy\" = [\">=0.9\", \"<1\"]\n").unwrap();
    assert_exit(&run(&["--requirements", "gates.toml"]), 3);
    for (bad, what) in [
        ("gender.acuracy>=0.5", "expected a figure: accuracy,"),
        ("accuracy=0.5", "expected one of >=, <=, > and <"),
        ("age.accuracy>=0.5", "expected a task: gender, found"),
        ("gender.accuracy_gap[age]<=0.1", "expected columns to group by: camera, found \"age\""),
    ] {
        let output = run(&["--require", bad]);
        assert_exit(&output, 2);
        assert!(stderr(&output).contains(what), "{bad}: {}", stderr(&output));
    }
    // Nothing was computed, and nothing written, for what cannot be judged.
    assert_exit(&run(&["--require", "age.accuracy>=0.5", "--per-sample", "samples.csv"]), 2);
    assert!(!place.path("samples.csv").exists());
    // Labels have no likelihood, and what is not defined does not pass.
    let undefined = run(&["--require", "gender.nll<=100"]);
    assert_exit(&undefined, 3);
    assert!(String::from_utf8_lossy(&undefined.stdout).contains("nll needs probabilities"));
}

#[test]
fn an_audit_fails_on_what_it_is_told_to_and_on_nothing_else() {
    let place = Workplace::new();
    let images = sample().join("images");
    let val = place.path("splits/ff_val.csv");
    let text = fs::read_to_string(&val).unwrap();
    let train = fs::read_to_string(place.path("splits/ff_train.csv")).unwrap();
    fs::write(&val, format!("{text}{}\nmissing.jpg,3-9,Male,White\n", train.lines().nth(1).unwrap()))
        .unwrap();
    let audit = ["audit", "--splits", "splits", "--images", images.to_str().unwrap(), "--json"];
    let run = |more: &[&str]| place.run(&[&audit[..], more].concat());
    assert_exit(&run(&[]), 0);
    assert_exit(&run(&["--fail-on", "unreadable:1,cross_split:1"]), 0);
    let output = run(&["--fail-on", "cross_split,unreadable:1", "--junit", "audit.xml"]);
    assert_exit(&output, 3);
    assert_eq!(json(&output)["failed"], serde_json::json!(["cross_split"]));
    assert!(fs::read_to_string(place.path("audit.xml")).unwrap().contains("failures=\"1\""));
    assert_exit(&run(&["--fail-on", "crossing"]), 2);
}

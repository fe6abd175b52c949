//! Predictions of anybody: evaluated and compared without a model and without images.

use fs_err as fs;

use crate::workplace::{Workplace, assert_exit, json, stderr};

/// 80 faces; skin tone is no task. The second model is right wherever the first is, and in ten more.
fn place() -> Workplace {
    let place = Workplace::new();
    let mut labels = "file,gender,skin_tone\n".to_owned();
    let (mut first, mut second) =
        ("file,gender:F,gender:M\n".to_owned(), "img_path,gender_pred\n".to_owned());
    for i in 0..80 {
        let truth = ["Female", "Male"][i % 2];
        let tone = ["I", "VI"][usize::from(i >= 40)];
        let right = if i < 40 { i % 8 != 0 } else { i % 2 == 0 };
        let f = if (truth == "Female") == right { 0.75 } else { 0.25 };
        labels += &format!("faces/{i}.jpg,{truth},{tone}\n");
        first += &format!("{i}.jpg,{f},{}\n", 1.0 - f);
        let right = right || (40..60).contains(&i);
        second += &format!("./faces/{i}.jpg,{}\n", if (truth == "Female") == right { "F" } else { "M" });
    }
    first += "stray.jpg,0.5,0.5\n";
    for (name, text) in [("labels.csv", labels), ("first.csv", first), ("second.csv", second)] {
        fs::write(place.path(name), text).unwrap();
    }
    let schema = "[[tasks]]\nname = \"gender\"\n[labels.gender]\nF = \"Female\"\nM = \"Male\"\n";
    fs::write(place.path("schema.toml"), schema).unwrap();
    place
}

const FIRST: [&str; 7] =
    ["evaluate", "--predictions", "first.csv", "--labels", "labels.csv", "--schema", "schema.toml"];

#[test]
fn somebody_elses_predictions_are_judged_by_any_column() {
    let place = place();
    let args = [
        "--group-by",
        "skin_tone",
        "--bootstrap",
        "50",
        "--per-sample",
        "samples.csv",
        "--html",
        "page.html",
    ];
    let output = place.run(&[&FIRST[..], &args, &["--json"]].concat());
    assert_exit(&output, 0);
    assert!(stderr(&output).contains("1 predictions have no labels: stray.jpg"), "{}", stderr(&output));
    let found = json(&output);
    assert_eq!((&found["n"], &found["source"]["join"]["n_by_base_name"]), (&80.into(), &80.into()));
    // 5 of the first 40 and 20 of the others are wrong.
    assert_eq!(found["tasks"]["gender"]["accuracy"], 55.0 / 80.0);
    let groups: Vec<_> = found["groups"].as_array().unwrap().iter().collect();
    let of = |tone: &str| {
        groups.iter().find(|g| g["group"] == tone).unwrap()["tasks"]["gender"]["accuracy"].clone()
    };
    assert_eq!((of("I"), of("VI")), ((35.0 / 40.0).into(), 0.5.into()));
    let samples = fs::read_to_string(place.path("samples.csv")).unwrap();
    assert!(
        samples.starts_with("file,gender,gender_predicted,gender_probability,gender_correct,skin_tone\n"),
        "{samples}"
    );
    assert_eq!(samples.lines().nth(1).unwrap(), "faces/0.jpg,Female,Male,0.75,false,I");
    let page = fs::read_to_string(place.path("page.html")).unwrap();
    assert!(page.contains("<title>Evaluation: first</title>") && page.contains("skin_tone"));

    assert_exit(&place.run(&[&FIRST[..], &["--strict"]].concat()), 1);
    // What was written before is replaced, what somebody else wrote is not.
    assert_exit(&place.run(&[&FIRST[..], &["--per-sample", "samples.csv"]].concat()), 0);
    let theirs = place.run(&[&FIRST[..], &["--per-sample", "labels.csv"]].concat());
    assert_exit(&theirs, 1);
    assert!(stderr(&theirs).contains("--force replaces it"), "{}", stderr(&theirs));
}

/// In group I three quarters of the women are found and no man is taken for one; in group VI scores say nothing.
#[test]
fn thresholds_by_group_are_found_on_one_file_tried_on_another_and_compared() {
    let place = place();
    let files = ["equalize", "first.csv", "first.csv", "--labels", "labels.csv", "--schema", "schema.toml"];
    let of = ["--task", "gender", "--class", "Female", "--group-by", "skin_tone", "--bootstrap", "50"];
    let outputs = ["--per-sample", "decided.csv", "--html", "page.html", "--json"];
    let output = place.run(&[&files[..], &of, &outputs].concat());
    assert_exit(&output, 0);
    let found = json(&output);
    let rules = found["rules"].as_array().unwrap();
    assert_eq!([&rules[0]["group"], &rules[1]["group"]], ["I", "VI"]);
    assert_eq!([&rules[0]["true_positive_rate"], &rules[1]["true_positive_rate"]], [0.75, 0.75]);
    assert_eq!([&rules[0]["false_positive_rate"], &rules[1]["false_positive_rate"]], [0.0, 0.75]);
    assert_eq!(rules[1]["thresholds"], serde_json::json!([null, 0.0]), "a lot, whatever the score");
    let differences = found["comparison"]["differences"].as_array().unwrap();
    let row = |figure: &str, group: Option<&str>| {
        differences.iter().find(|row| row["figure"] == figure && row["group"].as_str() == group).unwrap()
    };
    let first = row("accuracy", Some("I"));
    assert_eq!((&first["a"], &first["b"]), (&0.875.into(), &0.875.into()));
    assert_eq!((&row("accuracy", None)["task"], &row("accuracy", None)["n"]), (&"gender".into(), &80.into()));
    let decided = fs::read_to_string(place.path("decided.csv")).unwrap();
    assert_eq!(decided.lines().nth(2).unwrap(), "faces/1.jpg,Male,Male,,true,I");
    assert!(fs::read_to_string(place.path("page.html")).unwrap().contains("equalized"));

    // With both rates equal nothing is better than to find nobody, which costs what the table says.
    let odds = place.run(&[&files[..], &of, &["--parity", "odds"]].concat());
    assert_exit(&odds, 0);
    let text = String::from_utf8(odds.stdout).unwrap();
    assert!(text.contains("never") && text.contains("equalized less as predicted"), "{text}");

    let alone = place.run(&[&files[..2], &files[3..], &of].concat());
    assert_exit(&alone, 1);
    assert!(stderr(&alone).contains("expected APPLY beside first.csv"), "{}", stderr(&alone));
    let class = place
        .run(&[&files[..], &["--task", "gender", "--class", "woman", "--group-by", "skin_tone"]].concat());
    assert_exit(&class, 2);
    assert!(
        stderr(&class).contains("a class of gender: Female or Male, found \"woman\""),
        "{}",
        stderr(&class)
    );
}

#[test]
fn two_files_of_predictions_are_compared_sample_by_sample() {
    let place = place();
    let args = ["compare", "first.csv", "second.csv", "--labels", "labels.csv", "--schema", "schema.toml"];
    let more = ["--group-by", "skin_tone", "--html", "compared.html", "--json"];
    let output = place.run(&[&args[..], &more].concat());
    assert_exit(&output, 0);
    let found = json(&output);
    let rows = found["differences"].as_array().unwrap();
    let row = |figure: &str, group: Option<&str>| {
        let same = |row: &&serde_json::Value| {
            row["figure"] == figure
                && row["task"] == "gender"
                && row["group"].as_str() == group
                && row["by"].is_string() == group.is_some()
        };
        rows.iter().find(same).unwrap_or_else(|| panic!("no {figure} of {group:?} in {rows:?}"))
    };
    let all = row("accuracy", None);
    assert_eq!((&all["a"], &all["b"], &all["n"]), (&(55.0 / 80.0).into(), &(65.0 / 80.0).into(), &80.into()));
    // scipy.stats.binomtest(0, 10).pvalue
    assert!((all["p"].as_f64().unwrap() - 0.001_953_125).abs() < 1e-12, "{all}");
    assert!(all["low"].as_f64().unwrap() > 0.0, "{all}");
    assert_eq!(row("accuracy", Some("I"))["difference"], 0.0);
    assert!(row("nll", None)["difference"].is_null(), "labels have no likelihood");
    assert!(
        fs::read_to_string(place.path("compared.html"))
            .unwrap()
            .contains("<title>Comparison: first.csv and second.csv")
    );

    let gate = |bound: &str| {
        let requirement = format!("gender.accuracy.diff@lower>={bound}");
        place.run(&[&args[..], &["--require", &requirement]].concat())
    };
    assert_exit(&gate("0"), 0);
    assert_exit(&gate("0.3"), 3);
}

#[test]
fn evaluations_of_runs_are_compared_by_their_samples() {
    let place = Workplace::new();
    for (run, seed) in [("a", "1"), ("b", "2")] {
        let args =
            ["--init", "random", "--max-steps", "1", "--epochs", "1", "--seed", seed, "--run-dir", run];
        assert_exit(&place.train(&args), 0);
    }
    let runs = place.run(&["compare", "a", "b", "--bootstrap", "20", "--json"]);
    assert_exit(&runs, 0);
    for run in ["a", "b"] {
        assert_exit(&place.run(&["evaluate", "--run", run]), 0);
    }
    let records = ["a/evaluation/val.json", "b/evaluation/val.json"];
    let by_samples = place.run(&["compare", records[0], records[1], "--bootstrap", "20", "--json"]);
    assert_exit(&by_samples, 0);
    // What is wrong with either side, or is not there to group by or to require, is said before a model runs.
    for (args, code, what) in [
        (&["compare", "a", "nothing.csv"][..], 1, "nothing.csv"),
        (&["compare", "a", "b", "--group-by", "race,tone"], 2, "expected columns to group by: age, gender"),
        (
            &["compare", "a", "b", "--require", "hat.accuracy.diff>=0"],
            2,
            "expected a task: age, gender or race",
        ),
        (
            &["compare", "a", "b", "--require", "age.accuracy>=0"],
            2,
            "expected a difference such as accuracy.diff",
        ),
        (&["evaluate", "--run", "a", "--group-by", "tone"], 2, "expected columns to group by: age, gender"),
        (&["evaluate", "--run", "a", "--require", "age.accuracy_gap[age,tone]<=1"], 2, "found \"age\""),
    ] {
        let output = place.run(args);
        assert_exit(&output, code);
        let said = stderr(&output);
        assert!(
            said.contains(what) && (args[0] == "evaluate" || !said.contains("evaluating")),
            "{args:?}: {said}"
        );
    }
    // Tasks that one side lacks are no groups either.
    fs::write(place.path("age.toml"), "[[tasks]]\nname = \"age\"\n").unwrap();
    let by_age = place.run(&["compare", "a", "b/evaluation/val.csv", "--schema", "age.toml", "--json"]);
    assert_exit(&by_age, 0);
    assert_eq!(json(&by_age)["tasks"], serde_json::json!(["age"]));
    let (runs, by_samples) = (json(&runs), json(&by_samples));
    assert_eq!((&runs["n"], &by_samples["n"]), (&5.into(), &5.into()));
    assert_eq!(runs["mcnemar"][0]["only_a"], by_samples["mcnemar"][0]["only_a"]);
    fs::remove_file(place.path("b/evaluation/val.csv")).unwrap();
    let without = place.run(&["compare", records[0], records[1]]);
    assert_exit(&without, 1);
    assert!(
        stderr(&without).contains("expected the evaluation's samples in b/evaluation/val.csv"),
        "{}",
        stderr(&without)
    );
}

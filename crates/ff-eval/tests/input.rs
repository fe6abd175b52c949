//! Predictions and labels from files: what reads, what joins, and what is refused with which words.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use ff_core::{TaskName, UNKNOWN};
use ff_eval::{Bootstrap, FilePredictions, Over, SchemaFile, disparities, per_sample_csv, read_predictions};
use proptest::prelude::*;
use serde_json::Value;

/// One task, `gender`, spelled in letters.
const GENDER: &str = "[[tasks]]\nname = 'gender'\n[labels.gender]\nF = 'Female'\nM = 'Male'\n'-' = ''\n";

fn read(schema: &str, predictions: &str, labels: &str) -> Result<FilePredictions, String> {
    let dir = tempfile::tempdir().unwrap();
    let [p, l, s] = ["p", "l.csv", "s.toml"].map(|name| dir.path().join(name));
    fs_err::write(&p, predictions).unwrap();
    fs_err::write(&l, labels).unwrap();
    fs_err::write(&s, schema).unwrap();
    let found = SchemaFile::read(&s).and_then(|schema| read_predictions(&p, &l, &schema));
    found.map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
}

fn gender() -> TaskName {
    TaskName::new("gender").unwrap()
}

#[test]
fn labels_join_by_file_and_by_base_name_where_it_is_alone() {
    let labels = "file,gender,camera\nval/1.jpg,Male,x\n./val/2.jpg,F,y\nval\\3.jpg,-,\nval/4.jpg,Male,x\na/5.jpg,F,\n";
    let predictions =
        "file,gender_pred\n3.jpg,M\nval/2.jpg,Male\nother/1.jpg,M\n6.jpg,F\nb/4.jpg,F\nc/4.jpg,F\n";
    let found = read(GENDER, predictions, labels).unwrap();
    let (p, join) = (&found.predictions, &found.join);
    assert_eq!(p.files, ["val/1.jpg", "./val/2.jpg", "val\\3.jpg"]);
    assert_eq!(found.encoders["gender"].labels(), ["Female", "Male"]);
    assert_eq!(p.predicted(&gender()), [1, 1, 1]);
    assert_eq!(p.targets["gender"], [1, 0, UNKNOWN]);
    assert_eq!(p.labels_only, [gender()]);
    assert_eq!(p.attributes[0].labels, ["x", "y"]);
    assert_eq!(p.attributes[0].values, [0, 1, UNKNOWN]);
    assert_eq!((join.n, join.n_by_base_name), (3, 2));
    assert_eq!(join.without_prediction.first, ["val/4.jpg", "a/5.jpg"], "4.jpg stands twice");
    assert_eq!((join.without_label.n, &join.without_label.first[..1]), (3, &["6.jpg".to_owned()][..]));
    assert_eq!(
        join.require_complete().unwrap_err().to_string(),
        "expected the same files in predictions and labels, found 2 labels without a prediction: val/4.jpg, a/5.jpg; \
         3 predictions without labels: 6.jpg, b/4.jpg, c/4.jpg"
    );
}

#[test]
fn probabilities_are_by_label_and_those_of_one_label_are_added_up() {
    let schema =
        "[[tasks]]\nname = 'race'\n[labels.race]\n'East Asian' = 'Asian'\n'Southeast Asian' = 'Asian'\n";
    let predictions =
        "file,race_White,race:East Asian,race_Southeast Asian\na,0.4,0.25,0.35\nb,0.9,0.1,0.0\n";
    let found = read(schema, predictions, "file,race\nb,White\na,Southeast Asian\nc,Black\n").unwrap();
    assert_eq!(found.encoders["race"].labels(), ["Asian", "Black", "White"]);
    assert_eq!(found.predictions.probabilities["race"], [0.1, 0.0, 0.9, 0.6, 0.0, 0.4]);
    assert_eq!(found.predictions.targets["race"], [2, 0]);
    assert!(found.predictions.labels_only.is_empty());
    assert_eq!(found.join.only_labelled["race"], ["Black"]);
}

/// What `predict` writes, for people's tools and for FairFace's.
#[test]
fn what_predict_writes_is_read_in_every_format() {
    let labels = "file,age,gender,race\na.jpg,0-2,Male,White\n";
    let classes = |labels: &[(&str, f64)]| {
        serde_json::Map::from_iter(labels.iter().map(|&(l, p)| (l.to_owned(), p.into())))
    };
    let object = serde_json::json!({
        "file": "a.jpg",
        "age": {"label": "3-9", "probability": 0.75, "probabilities": classes(&[("0-2", 0.25), ("3-9", 0.75)])},
        "gender": {"label": "Male", "probability": 0.5, "probabilities": classes(&[("Female", 0.5), ("Male", 0.5)])},
        "race": {"label": "White", "probability": 1.0, "probabilities": classes(&[("Black", 0.0), ("White", 1.0)])},
    });
    let line = read("", &object.to_string(), labels).unwrap();
    assert_eq!(line.predictions.probabilities["age"], [0.25, 0.75]);
    let all = serde_json::json!({"n": 1, "predictions": [object], "failed": []});
    assert_eq!(read("", &serde_json::to_string_pretty(&all).unwrap(), labels).unwrap(), line);
    // Several lines are several objects.
    let second = object.to_string().replace("a.jpg", "b.jpg").replace("0.75", "0.9");
    let message = read("", &format!("{object}\n\n{second}\n"), labels).unwrap_err();
    assert_eq!(message, "p:3: age: expected probabilities that sum to 1, found 1.1500");

    let fairface = "face_name_align,race,gender,age,race_scores_fair,gender_scores_fair,age_scores_fair\n\
         a.jpg,White,Female,3-9,\"[0.5 0.25 0.25 0 0\n 0 0]\",[0.25 7.5e-1],[0. 0.7501 0.2499 0 0 0 0 0 0]\n";
    let found = read("", fairface, labels).unwrap().predictions;
    assert_eq!(found.probabilities["gender"], [0.75, 0.25], "by label, not in FairFace's order");
    // Black, East Asian, Indian, Latino_Hispanic, Middle Eastern, Southeast Asian, White
    assert_eq!(found.probabilities["race"], [0.25, 0.0, 0.0, 0.25, 0.0, 0.0, 0.5]);
}

#[test]
fn what_is_no_prediction_is_refused_by_row_and_column() {
    let two = |fields: &str| {
        format!("file,gender:Female,gender:Male,gender_pred\na.jpg,0.5,0.5,M\nb.jpg,{fields}\n")
    };
    let labels = "file,gender\na.jpg,Male\nb.jpg,Male\n";
    for (predictions, message) in [
        (two("x,0.5,"), "p:3: column gender:Female: expected a probability of gender, found \"x\""),
        (two("NaN,0.5,"), "p:3: gender: expected a probability of \"Female\" from 0 to 1, found NaN"),
        (two("inf,0.5,"), "p:3: gender: expected a probability of \"Female\" from 0 to 1, found inf"),
        (two("-0.5,1.5,"), "p:3: gender: expected a probability of \"Female\" from 0 to 1, found -0.5"),
        (two("0.5,0.4,"), "p:3: gender: expected probabilities that sum to 1, found 0.9000"),
        (
            two("0.7,0.3,Male"),
            "p:3: gender: expected the most probable label \"Female\" (0.7) as prediction, found \"Male\" (0.3); keep \
             probabilities or labels",
        ),
        ("file,gender\na.jpg,\n".to_owned(), "p:2: gender: expected a predicted label, found none"),
        ("file,gender\n,F\n".to_owned(), "p:2: expected a file, found an empty field"),
        (
            "file,gender\na.jpg,F\nb.jpg,F\n./a.jpg,M\n".to_owned(),
            "p:4: expected every file once, found \"./a.jpg\" in line 2 too",
        ),
        (
            "file,gender\na.jpg,w\n".to_owned(),
            "p: gender: expected labels such as Male, found w; [labels.gender] of a schema maps",
        ),
        (
            "file,gender\nz.jpg,F\n".to_owned(),
            "expected the same files in predictions and labels, found none in common: \"z.jpg\" in p",
        ),
        (
            "file,age\na.jpg,F\n".to_owned(),
            "p: expected predictions of gender: a column gender_predicted, or columns gender:LABEL",
        ),
        ("{\"file\": \"a.jpg\"}".to_owned(), "p:1: expected a prediction of gender, found none"),
        ("{\"file\": \"a.jpg\"".to_owned(), "p: EOF while parsing"),
    ] {
        let found = read(GENDER, &predictions, labels).unwrap_err();
        assert!(found.starts_with(message), "{predictions}: {found}");
    }
    let message = read(GENDER, "file,gender\na.jpg,F\n", "file,age\na.jpg,3\n").unwrap_err();
    assert_eq!(message, "l.csv: expected a column gender with the labels of gender, found file, age");
    let message = read(GENDER, "file,gender\na.jpg,F\n", "file,gender\na.jpg,M\na.jpg,F\n").unwrap_err();
    assert_eq!(message, "l.csv:3: expected every file once, found \"a.jpg\" in line 2 too");
}

#[test]
fn results_of_every_sample_read_as_predictions_and_as_labels() {
    let labels = "file,gender,camera\n\"a, b.jpg\",Male,x\nc.jpg,F,\"y \"\"z\"\"\"\nd.jpg,-,\n";
    let found = read(GENDER, "file,gender\n\"a, b.jpg\",M\nc.jpg,M\nd.jpg,M\n", labels).unwrap();
    let columns = ["gender".to_owned(), "camera".to_owned()];
    let csv = per_sample_csv(&found.predictions, &found.encoders, &columns).unwrap();
    assert_eq!(
        csv,
        "file,gender,gender_predicted,gender_probability,gender_correct,camera\n\
         \"a, b.jpg\",Male,Male,,true,x\nc.jpg,Female,Male,,false,\"y \"\"z\"\"\"\nd.jpg,,Male,,,\n"
    );
    let again = read(GENDER, &csv, &csv).unwrap();
    assert_eq!(again.predictions.predicted(&gender()), found.predictions.predicted(&gender()));
    assert_eq!(again.predictions.targets, found.predictions.targets);
    let with = "file,gender_F,gender_M\n\"a, b.jpg\",0.25,0.75\nc.jpg,0.875,0.125\nd.jpg,1,0\n";
    let found = read(GENDER, with, labels).unwrap();
    let csv = per_sample_csv(&found.predictions, &found.encoders, &[]).unwrap();
    assert!(csv.contains("\nc.jpg,Female,Female,0.875,true\nd.jpg,,Female,1,\n"), "{csv}");
    let error = per_sample_csv(&found.predictions, &found.encoders, &["eyes".to_owned()]).unwrap_err();
    assert_eq!(error.to_string(), "expected columns to group by: gender or camera, found \"eyes\"");
}

#[track_caller]
fn assert_close(found: Option<f64>, expected: &Value, what: &str) {
    let close = match (found, expected.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() < 1e-9,
        (a, b) => a.is_none() && b.is_none(),
    };
    assert!(close, "{what}: expected {expected}, found {found:?}");
}

/// `metric_frame_golden.py` made the files and the numbers: groups by columns that are no task, and both crossed.
#[test]
fn predictions_of_a_file_equal_fairlearns_metric_frame_by_a_column_that_is_no_task() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let [predictions, labels] =
        ["predictions", "labels"].map(|name| tests.join(format!("metric_frame_{name}.csv")));
    let FilePredictions { predictions, encoders, join } =
        read_predictions(&predictions, &labels, &SchemaFile::default()).unwrap();
    assert_eq!((join.n, join.n_by_base_name), (300, 300));
    join.require_complete().unwrap();
    let group_by = ["skin_tone".to_owned(), "camera".to_owned()];
    let none = Bootstrap { resamples: 0, seed: 0 };
    let evaluation = predictions.evaluate(&encoders, &group_by).unwrap();
    let disparities = disparities(&predictions, &encoders, &group_by, &none).unwrap();
    let golden: Value = serde_json::from_str(include_str!("metric_frame_golden.json")).unwrap();
    for expected in golden.as_array().unwrap() {
        let by = expected["by"].as_str().unwrap();
        let found = disparities.iter().find(|d| d.by.to_string() == by && d.over == Over::All).unwrap();
        for (task, encoder) in encoders.iter() {
            let expected = &expected["tasks"][task.as_str()];
            let what = format!("{task} by {by}");
            let overall = &evaluation.tasks[task];
            assert_close(Some(overall.accuracy), &expected["overall"]["accuracy"], &what);
            assert_close(Some(overall.macro_f1), &expected["overall"]["macro_f1"], &what);
            let groups: Vec<_> =
                evaluation.groups.iter().filter(|g| g.by.to_string() == by && g.n > 0).collect();
            let by_group = expected["by_group"].as_object().unwrap();
            assert_eq!(groups.len(), by_group.len());
            for group in groups {
                let (expected, found) = (&by_group[&group.group], &group.tasks[task]);
                assert_eq!(Some(group.n as f64), expected["n"].as_f64());
                let metrics = found.metrics.as_ref().unwrap();
                assert_close(Some(metrics.accuracy), &expected["accuracy"], &what);
                assert_close(Some(metrics.macro_f1), &expected["macro_f1"], &what);
            }
            let found_task = &found.tasks[task];
            assert_close(Some(found_task.worst_accuracy), &expected["group_min"], &what);
            assert_close(Some(found_task.best_accuracy), &expected["group_max"], &what);
            assert_close(Some(found_task.accuracy_difference.value), &expected["difference"], &what);
            assert_close(found_task.accuracy_ratio, &expected["ratio"], &what);
            let parity = found_task.parity_and_odds.as_ref().unwrap();
            for class in 0..encoder.n_classes() {
                let (expected, found) = (&expected["classes"][class], &parity.classes[class]);
                let figures = [
                    (found.demographic_parity_difference, "demographic_parity_difference"),
                    (found.demographic_parity_ratio, "demographic_parity_ratio"),
                    (found.equalized_odds_difference, "equalized_odds_difference"),
                    (found.equalized_odds_ratio, "equalized_odds_ratio"),
                ];
                for (found, name) in figures {
                    assert_close(found, &expected[name], &format!("{what}: {name}"));
                }
                for group in evaluation.groups.iter().filter(|g| g.by.to_string() == by && g.n > 0) {
                    let (expected, rates) = (&expected["by_group"][&group.group], &group.tasks[task].rates);
                    assert_close(rates.selection_rate[class], &expected["selection_rate"], &what);
                    assert_close(rates.true_positive_rate[class], &expected["true_positive_rate"], &what);
                    assert_close(rates.false_positive_rate[class], &expected["false_positive_rate"], &what);
                }
            }
        }
    }
}

proptest! {
    /// Whatever the bytes are, there is an answer or an error.
    #[test]
    fn no_file_makes_it_panic(
        which in 0usize..4,
        place in 0usize..400,
        bytes in prop::collection::vec(prop::sample::select(b"\",:{}[]\n-0.9eF_\xff".to_vec()), 0..6),
    ) {
        let csv = "file,gender:F,gender:M\na,0.5,0.5\nb,0.25,0.75\n".to_owned();
        let json = r#"{"file":"a","gender":{"label":"F","probabilities":{"F":1.0,"M":0.0}}} {"file":"b","gender":"F"}"#;
        let scores = "file,gender,gender_scores_fair\na,Male,[0.75 0.25]\nb,Female,[0.25 0.75]\n".to_owned();
        let labels = "file,gender,x\na,Male,1\nb,Female,2\n".to_owned();
        let mut files = [csv, json.to_owned(), scores, labels].map(String::into_bytes);
        let file = &mut files[which];
        let place = place % file.len();
        let end = (place + bytes.len() / 2).min(file.len());
        file.splice(place..end, bytes);
        let dir = tempfile::tempdir().unwrap();
        let paths = [0, 1, 2, 3].map(|i| dir.path().join(i.to_string()));
        for (path, bytes) in paths.iter().zip(&files) {
            fs_err::write(path, bytes).unwrap();
        }
        let schema = dir.path().join("schema.toml");
        fs_err::write(&schema, GENDER).unwrap();
        let schema = SchemaFile::read(&schema).unwrap();
        for path in &paths[..3] {
            if let Ok(found) = read_predictions(path, &paths[3], &schema) {
                let n = found.join.n;
                prop_assert!(n > 0 && found.predictions.len() == n);
                let _ = found.predictions.evaluate(&found.encoders, &["gender".to_owned()]);
            }
        }
    }
}

//! Labels <-> ids, and ages in order.

use std::collections::BTreeSet;

use ff_data::{AgeBin, Encoders, Error, LabelEncoder, Manifest, PerTask, Task, age_order};
use proptest::prelude::*;

use crate::support::sample_splits;

fn encoder(labels: &[&str]) -> LabelEncoder {
    LabelEncoder::fit(Task::Age, labels.iter().copied()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn ids_are_the_sorted_order(labels in prop::collection::vec(".{1,8}", 1..40)) {
        let encoder = LabelEncoder::fit(Task::Race, labels.iter().map(String::as_str)).unwrap();
        let sorted: Vec<&String> = labels.iter().collect::<BTreeSet<_>>().into_iter().collect();
        prop_assert_eq!(encoder.n_classes(), sorted.len());
        for (id, label) in sorted.into_iter().enumerate() {
            prop_assert_eq!(encoder.encode(label).unwrap(), id as u32);
            prop_assert_eq!(encoder.decode(id as u32).unwrap(), label);
        }
        prop_assert_eq!(encoder.decode(encoder.n_classes() as u32), None);
    }

    #[test]
    fn encoders_survive_json(labels in prop::collection::vec(".{1,8}", 1..20)) {
        let fit = |task| LabelEncoder::fit(task, labels.iter().map(String::as_str)).unwrap();
        let encoders: Encoders = PerTask::from_fn(fit);
        prop_assert_eq!(Encoders::from_json(&encoders.to_json()).unwrap(), encoders);
    }
}

#[test]
fn the_sample_has_fairfaces_classes() {
    let encoders = sample_splits().encoders;
    assert_eq!(encoders.n_classes(), PerTask { age: 9, gender: 2, race: 7 });
    let ages = ["0-2", "10-19", "20-29", "3-9", "30-39", "40-49", "50-59", "60-69", "more than 70"];
    assert_eq!(encoders.age.labels(), ages);
    assert_eq!(age_order(&encoders.age).unwrap(), [0, 2, 3, 1, 4, 5, 6, 7, 8]);
}

#[test]
fn another_face_set_has_its_own_class_count() {
    let csv = "file,age,gender,race\na,0+,F,v\nb,0+,F,w\nc,0+,F,x\nd,0+,F,y\ne,0+,F,z\n";
    let encoders = Encoders::fit(&Manifest::parse("five.csv", csv.as_bytes()).unwrap()).unwrap();
    assert_eq!(encoders.n_classes(), PerTask { age: 1, gender: 1, race: 5 });
}

#[test]
fn an_unseen_label_is_named() {
    let error = encoder(&["0-2", "3-9"]).encode("70+").unwrap_err();
    assert!(matches!(error, Error::UnseenLabel { task: Task::Age, .. }));
    assert_eq!(error.to_string(), "age label \"70+\" is not in the training split: expected one of 0-2, 3-9");
}

#[test]
fn saved_encoders_are_checked() {
    let json = |labels: &str| {
        let one =
            |task: &str, labels: &str| format!(r#""{task}": {{"task": "{task}", "labels": [{labels}]}}"#);
        format!("{{{}, {}, {}}}", one("age", labels), one("gender", r#""F""#), one("race", r#""A""#))
    };
    assert!(Encoders::from_json(&json(r#""a", "b""#)).is_ok());
    for (labels, message) in [
        (r#""b", "a""#, r#"expected sorted labels, found "b" before "a""#),
        (r#""a", "a""#, r#"expected distinct labels, found "a" twice"#),
        ("", "expected at least one label, found none"),
    ] {
        let error = Encoders::from_json(&json(labels)).unwrap_err().to_string();
        assert!(error.contains(message), "{error:?} lacks {message:?}");
    }
    let swapped = json(r#""a""#).replace(r#""task": "age""#, r#""task": "race""#);
    let error = Encoders::from_json(&swapped).unwrap_err().to_string();
    assert_eq!(error, "age encoder: expected labels of age, found labels of race");
}

#[test]
fn age_bins_parse() {
    let bin = |label: &str| label.parse::<AgeBin>();
    assert_eq!(bin("0-2").unwrap(), AgeBin { lower: 0, upper: Some(2) });
    assert_eq!(bin("10-19").unwrap(), AgeBin { lower: 10, upper: Some(19) });
    assert_eq!(bin("more than 70").unwrap(), AgeBin { lower: 70, upper: None });
    assert_eq!(bin("70+").unwrap(), AgeBin { lower: 70, upper: None });
    for label in ["", "-", "9-3", "+", "+5-9", "-3-9", "a-b", "more than", "70", "99999999999-999999999999"] {
        assert!(bin(label).is_err(), "{label:?} parses");
    }
    let error = age_order(&encoder(&["70+", "more than 70"])).unwrap_err().to_string();
    assert!(error.contains("distinct lower bounds"), "{error}");
}

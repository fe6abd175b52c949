//! Thresholds by group against Fairlearn's `ThresholdOptimizer` (`equalize_golden.py` made the numbers), and what must
//! hold for any scores.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use ff_core::{Encoders, LabelEncoder, PerTask, Schema, Task, TaskName, UNKNOWN};
use ff_eval::{
    Attribute, Bootstrap, Equalizer, Figure, FilePredictions, GroupRule, Grouping, Parity, Predictions,
    SchemaFile, Side, compare, read_predictions,
};
use proptest::prelude::*;
use serde_json::Value;

/// 300 samples of FairFace's tasks with random predictions, and columns that are no task.
fn golden() -> FilePredictions {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let [predictions, labels] =
        ["predictions", "labels"].map(|name| here.join(format!("metric_frame_{name}.csv")));
    let schema = SchemaFile { schema: Schema::fairface(), ..SchemaFile::default() };
    read_predictions(&predictions, &labels, &schema).unwrap()
}

fn gender() -> TaskName {
    TaskName::new("gender").unwrap()
}

fn fit(found: &FilePredictions, class: &str, by: &str, parity: Parity) -> Result<Equalizer, String> {
    Equalizer::fit(&found.predictions, &found.encoders, &gender(), class, &by.parse().unwrap(), parity)
        .map_err(|e| e.to_string())
}

/// The share of right decisions that a rule expects of a group with these positives.
fn right(rule: &GroupRule, positives: f64) -> f64 {
    let negatives = rule.n as f64 - positives;
    positives * rule.true_positive_rate + negatives * (1.0 - rule.false_positive_rate)
}

#[test]
fn rates_and_accuracy_are_those_of_fairlearns_threshold_optimizer() {
    let found = golden();
    let expected: Vec<Value> = serde_json::from_str(include_str!("equalize_golden.json")).unwrap();
    assert_eq!(expected.len(), 8);
    for expected in expected {
        let text = |key: &str| expected[key].as_str().unwrap();
        let parity = serde_json::from_value(expected["parity"].clone()).unwrap();
        let equalizer = fit(&found, text("class"), text("by"), parity).unwrap();
        let what = format!("{} {} {parity:?}", text("class"), text("by"));
        let step = 2.0 / expected["grid"].as_f64().unwrap();
        let column = found.predictions.attributes.iter().find(|column| column.name == text("by")).unwrap();
        let id = found.encoders["gender"].encode(text("class")).unwrap();
        let positives_of = |group: &str| {
            let of = |(&value, &target): (&u32, &u32)| column.labels[value as usize] == group && target == id;
            column.values.iter().zip(&found.predictions.targets["gender"]).filter(|&pair| of(pair)).count()
                as f64
        };
        let mut all_right = 0.0;
        assert_eq!(equalizer.rules.len(), expected["groups"].as_object().unwrap().len());
        for rule in &equalizer.rules {
            let group = &expected["groups"][&rule.group];
            assert_eq!(rule.n, group["n"], "{what}");
            for (rate, key) in [
                (rule.true_positive_rate, "true_positive_rate"),
                (rule.false_positive_rate, "false_positive_rate"),
            ] {
                let expected = group[key].as_f64().unwrap();
                assert!((rate - expected).abs() < step, "{what} {}: {key} {rate}, {expected}", rule.group);
            }
            all_right += right(rule, positives_of(&rule.group));
        }
        let (accuracy, theirs) =
            (all_right / found.predictions.len() as f64, expected["accuracy"].as_f64().unwrap());
        // The grid may miss the best point, and never finds a better one.
        assert!((theirs - 1e-9..theirs + step).contains(&accuracy), "{what}: {accuracy}, {theirs}");
    }
}

#[test]
fn decided_samples_have_nearly_the_rates_and_compare_says_what_they_cost() {
    let found = golden();
    let FilePredictions { predictions, encoders, .. } = &found;
    let by = ["camera".to_owned()];
    let equalizer = fit(&found, "Female", "camera", Parity::Odds).unwrap();
    let equalized = equalizer.apply(predictions, encoders, 42).unwrap();
    assert_eq!(equalized.kept, 0);
    let bootstrap = Bootstrap { resamples: 200, seed: 1 };
    let side = |name, predictions| Side { name, predictions, encoders };
    let comparison =
        compare(side("before", predictions), side("after", &equalized.predictions), &by, &bootstrap).unwrap();
    let odds = comparison
        .differences
        .iter()
        .find(|row| row.figure == Figure::EqualizedOdds && row.task == Some(gender()) && row.by.is_some());
    let odds = odds.unwrap();
    assert!(odds.b < 0.1 && odds.low.is_some(), "{odds:?}");
    // Other tasks stay as they were, and a file is always decided alike.
    assert_eq!(equalized.predictions.probabilities["race"], predictions.probabilities["race"]);
    assert_eq!(equalizer.apply(predictions, encoders, 42).unwrap(), equalized);
    let one = Predictions {
        probabilities: encoders
            .each(|task, encoder| predictions.probabilities[task][..encoder.n_classes()].to_vec()),
        targets: encoders.each(|task, _| predictions.targets[task][..1].to_vec()),
        files: predictions.files[..1].to_vec(),
        attributes: predictions
            .attributes
            .iter()
            .map(|column| Attribute { values: column.values[..1].to_vec(), ..column.clone() })
            .collect(),
        labels_only: Vec::new(),
    };
    let alone = equalizer.apply(&one, encoders, 42).unwrap().predictions;
    assert_eq!(alone.predicted(&gender())[0], equalized.predictions.predicted(&gender())[0]);
}

#[test]
fn lots_are_as_frequent_as_the_rules_say() {
    let rule = GroupRule {
        group: "a".to_owned(),
        n: 100,
        thresholds: [Some(0.8), Some(0.4)],
        second: 0.25,
        by_lot: 0.5,
        lots: 0.1,
        true_positive_rate: 0.0,
        false_positive_rate: 0.0,
    };
    assert_eq!([0.9, 0.8, 0.5, 0.1].map(|score| rule.chance(score)), [0.55, 0.55, 0.175, 0.05]);
    let never = GroupRule { thresholds: [None, Some(0.0)], by_lot: 0.0, ..rule };
    assert_eq!(never.chance(1.0), 0.25);
    let equalizer = Equalizer {
        task: gender(),
        class: "Male".to_owned(),
        by: "camera".parse().unwrap(),
        parity: Parity::Odds,
        rules: vec![GroupRule { group: "phone".to_owned(), ..never }],
    };
    let n = 20_000;
    let (mut predictions, encoders) = two_groups(&vec![(0.3, true, Some("phone")); n]);
    let male =
        |predictions: &Predictions| predictions.predicted(&gender()).iter().filter(|&&id| id == 1).count();
    let equalized = equalizer.apply(&predictions, &encoders, 7).unwrap();
    // Five standard deviations of a binomial count.
    assert!(male(&equalized.predictions).abs_diff(n / 4) < 307, "{}", male(&equalized.predictions));
    let other = equalizer.apply(&predictions, &encoders, 8).unwrap();
    assert_ne!(other.predictions, equalized.predictions);
    // In a group without a rule, or in none, predictions are what they were.
    predictions.attributes[0] = Attribute::new("camera", (0..n).map(|i| (i % 2 == 0).then_some("compact")));
    let kept = equalizer.apply(&predictions, &encoders, 7).unwrap();
    assert_eq!((kept.kept, male(&kept.predictions)), (n, 0));
}

#[test]
fn what_has_no_thresholds_is_told_by_task_group_and_class() {
    let found = golden();
    let error = |class: &str, by: &str| fit(&found, class, by, Parity::Odds).unwrap_err();
    assert_eq!(
        error("woman", "camera"),
        "thresholds by group: expected a class of gender: Female or Male, found \"woman\""
    );
    assert_eq!(
        error("Male", "camera,gender"),
        "thresholds by group: expected groups by other columns than gender, found camera,gender"
    );
    assert!(error("Male", "lens").starts_with("expected columns to group by: "), "{}", error("Male", "lens"));
    let of = |task: &str, predictions: &Predictions| {
        let task = TaskName::new(task).unwrap();
        let by: Grouping = "camera".parse().unwrap();
        Equalizer::fit(predictions, &found.encoders, &task, "Male", &by, Parity::Odds)
            .unwrap_err()
            .to_string()
    };
    let task = |name| of(name, &found.predictions);
    assert_eq!(task("age"), "thresholds by group: expected a task of two classes, found 9 of age");
    assert_eq!(
        task("nose"),
        "thresholds by group: expected one of the tasks age, gender or race, found nose"
    );
    let labels = Predictions { labels_only: vec![gender()], ..found.predictions.clone() };
    assert_eq!(
        of("gender", &labels),
        "thresholds by group: expected probabilities of gender, found labels alone"
    );
    let (predictions, encoders) =
        two_groups(&[(0.3, true, Some("phone")), (0.4, true, Some("phone")), (0.6, false, None)]);
    let by = "camera".parse().unwrap();
    let error = Equalizer::fit(&predictions, &encoders, &gender(), "Male", &by, Parity::Odds).unwrap_err();
    assert_eq!(
        error.to_string(),
        "thresholds by group: camera phone: expected samples of both classes, found 2 of Male among 2"
    );
}

/// Samples with a probability of `Male`, whether they are labelled so, and a camera.
fn two_groups(samples: &[(f32, bool, Option<&str>)]) -> (Predictions, Encoders) {
    let encoder = LabelEncoder::fit(Task::new("gender"), ["Female", "Male"]).unwrap();
    let encoders = Encoders::new([(gender(), encoder)].into_iter().collect()).unwrap();
    let of = |values: Vec<f32>| PerTask::from_iter([(gender(), values)]);
    let predictions = Predictions {
        probabilities: of(samples.iter().flat_map(|sample| [1.0 - sample.0, sample.0]).collect()),
        targets: PerTask::from_iter([(gender(), samples.iter().map(|sample| u32::from(sample.1)).collect())]),
        files: (0..samples.len()).map(|i| format!("{i}.jpg")).collect(),
        attributes: vec![Attribute::new("camera", samples.iter().map(|sample| sample.2))],
        labels_only: Vec::new(),
    };
    (predictions, encoders)
}

proptest! {
    /// Rates are equal and are what the samples have in expectation, and nothing that constant answers reach is missed.
    #[test]
    fn rates_are_equal_and_true(
        samples in proptest::collection::vec((0u32..=20, any::<bool>(), 0usize..3, any::<bool>()), 6..80),
        odds in any::<bool>(),
    ) {
        let names = ["a", "b", "c"];
        let mut samples: Vec<(f32, bool, Option<&str>)> = samples
            .iter()
            .map(|&(score, positive, group, known)| (score as f32 / 20.0, positive, known.then_some(names[group])))
            .collect();
        // Every group has samples of both kinds.
        for (group, &name) in names.iter().enumerate() {
            samples.extend([(group as f32 / 4.0, true, Some(name)), (0.5, false, Some(name))]);
        }
        let (mut predictions, encoders) = two_groups(&samples);
        predictions.targets["gender"].push(UNKNOWN);
        predictions.probabilities["gender"].extend([0.5, 0.5]);
        predictions.files.push("unknown".to_owned());
        predictions.attributes[0].values.push(0);
        let parity = if odds { Parity::Odds } else { Parity::Opportunity };
        let by = "camera".parse().unwrap();
        let equalizer = Equalizer::fit(&predictions, &encoders, &gender(), "Male", &by, parity).unwrap();
        let (mut all_right, mut positives) = (0.0, 0.0);
        for rule in &equalizer.rules {
            let chances = |of_class: bool| {
                let of: Vec<f64> = samples
                    .iter()
                    .filter(|sample| sample.2 == Some(&rule.group) && sample.1 == of_class)
                    .map(|sample| rule.chance(f64::from(sample.0)))
                    .collect();
                (of.iter().sum::<f64>() / of.len() as f64, of.len() as f64)
            };
            let ((hits, n_positive), (alarms, _)) = (chances(true), chances(false));
            prop_assert!((hits - rule.true_positive_rate).abs() < 1e-9, "{rule:?} {hits}");
            prop_assert!((alarms - rule.false_positive_rate).abs() < 1e-9, "{rule:?} {alarms}");
            let first = &equalizer.rules[0];
            prop_assert!((rule.true_positive_rate - first.true_positive_rate).abs() < 1e-9);
            prop_assert!(!odds || (rule.false_positive_rate - first.false_positive_rate).abs() < 1e-9);
            all_right += right(rule, n_positive);
            positives += n_positive;
        }
        let n: u64 = equalizer.rules.iter().map(|rule| rule.n).sum();
        prop_assert!(all_right >= positives.max(n as f64 - positives) - 1e-9);
    }
}

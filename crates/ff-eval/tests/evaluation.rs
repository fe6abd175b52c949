//! Evaluation against scikit-learn, Fairlearn, SciPy and cleanlab (`evaluation_golden.py` made the numbers), and what
//! must hold for any predictions.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use ff_core::{Encoders, LabelEncoder, PerTask, Schema, TaskName, UNKNOWN};
use ff_eval::{
    Attribute, Bootstrap, Calibration, Disparities, EvaluationRecord, EvaluationSource, GroupMetrics,
    Grouping, Over, Predictions, SMALL_GROUP, Settings, Temperature, TestTimeAugmentation, disparities,
    label_errors, mistakes, top_confusions, wilson,
};
use proptest::prelude::*;
use serde_json::Value;

const NO_INTERVALS: Bootstrap = Bootstrap { resamples: 0, seed: 0 };

struct Golden {
    predictions: Predictions,
    encoders: Encoders,
    expected: Value,
}

fn golden() -> Golden {
    let expected: Value = serde_json::from_str(include_str!("evaluation_golden.json")).unwrap();
    let strings = |value: &Value| serde_json::from_value::<Vec<String>>(value.clone()).unwrap();
    let ids = |value: &Value| serde_json::from_value::<Vec<u32>>(value.clone()).unwrap();
    let schema = Schema::fairface();
    let labels = schema.per_task(|task| strings(&expected["labels"][task.name.as_str()]));
    let targets = schema.per_task(|task| ids(&expected["targets"][task.name.as_str()]));
    let parts = schema.per_task(|task| ids(&expected["probabilities_1024"][task.name.as_str()]));
    let files = (0..targets["age"].len()).map(|i| i.to_string()).collect();
    let probabilities = parts.map(|parts| parts.iter().map(|&p| p as f32 / 1024.0).collect());
    Golden {
        predictions: Predictions { probabilities, targets, files, ..Predictions::default() },
        encoders: encoders(&labels),
        expected,
    }
}

fn encoders(labels: &PerTask<Vec<String>>) -> Encoders {
    let schema = Schema::fairface();
    let encoder = |name: &TaskName| {
        LabelEncoder::from_sorted(schema.task(name.as_str()).unwrap().clone(), labels[name].clone()).unwrap()
    };
    Encoders::new(labels.each(|name, _| encoder(name))).unwrap()
}

/// All of FairFace's.
fn all() -> Vec<String> {
    by(&["age", "gender", "race"])
}

fn by(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn task(name: &str) -> TaskName {
    TaskName::new(name).unwrap()
}

#[track_caller]
fn assert_close(found: impl Into<Option<f64>>, expected: &Value, what: &str) {
    let found = found.into();
    let close = match (found, expected.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() < 1e-9,
        (a, b) => a.is_none() && b.is_none(),
    };
    assert!(close, "{what}: expected {expected}, found {found:?}");
}

#[test]
fn metrics_agree_with_scikit_learn() {
    let Golden { predictions, encoders, expected } = golden();
    let evaluation = predictions.evaluate(&encoders, &[]).unwrap();
    assert_eq!(evaluation.display_order["age"], [0, 2, 1, 3], "0-2, 3-9, 10-19, more than 70");
    for (task, found) in evaluation.tasks.iter() {
        let expected = &expected["tasks"][task.as_str()];
        let metrics = &expected["metrics"];
        assert_close(found.accuracy, &metrics["accuracy"], "accuracy");
        assert_close(found.balanced_accuracy, &metrics["balanced_accuracy"], "balanced accuracy");
        assert_close(found.macro_f1, &metrics["macro_f1"], "macro F1");
        assert_close(found.nll, &metrics["nll"], "NLL");
        assert_close(found.ece, &metrics["ece"], "ECE");
        assert_close(found.one_off, &metrics["one_off"], "one-off");
        assert_eq!(serde_json::to_value(&evaluation.confusion[task]).unwrap(), expected["confusion"]);
        for (bin, expected) in
            evaluation.reliability[task].iter().zip(expected["reliability"].as_array().unwrap())
        {
            assert_eq!(bin.n, expected[0]);
            assert_close(bin.confidence, &expected[1], "confidence");
            assert_close(bin.accuracy, &expected[2], "accuracy of a bin");
        }
    }
}

#[test]
fn groups_agree_with_fairlearn_and_their_intervals_with_scipy() {
    let Golden { predictions, encoders, expected } = golden();
    let evaluation = predictions.evaluate(&encoders, &all()).unwrap();
    let find = |expected: &Value| -> &GroupMetrics {
        let same = |g: &&GroupMetrics| g.by.to_string() == expected["by"] && g.group == expected["group"];
        evaluation.groups.iter().find(same).unwrap()
    };
    let with_samples = evaluation.groups.iter().filter(|g| g.n > 0).count();
    assert_eq!(with_samples, expected["groups"].as_array().unwrap().len());
    for expected in expected["groups"].as_array().unwrap() {
        let group = find(expected);
        let name = format!("{} {}", group.by, group.group);
        assert_eq!(group.n, expected["n"], "{name}");
        assert_eq!(group.small, group.n < SMALL_GROUP, "{name}");
        for (task, found) in group.tasks.iter() {
            let expected = &expected["tasks"][task.as_str()];
            let metrics = found.metrics.as_ref().unwrap();
            assert_close(metrics.accuracy, &expected["accuracy"], &name);
            assert_close(metrics.macro_f1, &expected["macro_f1"], &name);
            let interval = found.accuracy_interval.unwrap();
            assert_close(interval.low, &expected["accuracy_interval"][0], &name);
            assert_close(interval.high, &expected["accuracy_interval"][1], &name);
            for class in 0..encoders[task].n_classes() {
                let rates = &found.rates;
                assert_close(rates.selection_rate[class], &expected["selection_rate"][class], &name);
                assert_close(rates.true_positive_rate[class], &expected["true_positive_rate"][class], &name);
                assert_close(
                    rates.false_positive_rate[class],
                    &expected["false_positive_rate"][class],
                    &name,
                );
            }
        }
    }
}

#[test]
fn disparities_agree_with_fairlearn() {
    let Golden { predictions, encoders, expected } = golden();
    let found = disparities(&predictions, &encoders, &all(), &NO_INTERVALS).unwrap();
    let over_all: Vec<_> = found.iter().filter(|d| d.over == Over::All).collect();
    assert_eq!(over_all.len(), 7, "three attributes and their intersections");
    for (found, expected) in over_all.iter().zip(expected["disparities"].as_array().unwrap()) {
        assert_eq!(found.by.to_string(), expected["by"]);
        for (task, found_task) in found.tasks.iter() {
            let expected = &expected["tasks"][task.as_str()];
            let what = format!("{task} by {}", found.by);
            assert_close(found_task.accuracy_difference.value, &expected["accuracy_difference"], &what);
            assert_close(found_task.accuracy_ratio, &expected["accuracy_ratio"], &what);
            assert_close(found_task.worst_accuracy, &expected["worst_accuracy"], &what);
            let Some(parity) = &found_task.parity_and_odds else {
                assert!(
                    found.by.attributes().contains(&task.to_string()) && expected["classes"].is_null(),
                    "{what}"
                );
                continue;
            };
            let classes = expected["classes"].as_array().unwrap();
            assert_eq!(parity.classes.len(), classes.len());
            let largest = |key: &str| classes.iter().filter_map(|c| c[key].as_f64()).fold(0.0, f64::max);
            let odds = parity.equalized_odds_difference.value;
            assert_close(odds, &largest("equalized_odds_difference").into(), &what);
            let selection = parity.demographic_parity_difference.value;
            assert_close(selection, &largest("demographic_parity_difference").into(), &what);
            for (class, expected) in parity.classes.iter().zip(classes) {
                let figures = [
                    (class.demographic_parity_difference, "demographic_parity_difference"),
                    (class.demographic_parity_ratio, "demographic_parity_ratio"),
                    (class.equalized_odds_difference, "equalized_odds_difference"),
                    (class.equalized_odds_ratio, "equalized_odds_ratio"),
                ];
                for (found, key) in figures {
                    assert_close(found, &expected[key], &format!("{what}: {key}"));
                }
            }
        }
    }
}

/// Nothing evaluated once read as 0 % right, and as the best epoch so far.
#[test]
fn an_evaluation_of_no_samples_is_an_error_and_not_zero_percent() {
    let Golden { encoders, .. } = golden();
    let message = Predictions::default().evaluate(&encoders, &[]).unwrap_err().to_string();
    assert_eq!(message, "expected samples to evaluate, found none");
}

#[test]
fn a_group_without_samples_has_no_figures() {
    let Golden { predictions, encoders, .. } = golden();
    let groups = predictions.evaluate(&encoders, &all()).unwrap().groups;
    let empty = groups.iter().find(|group| group.n == 0).unwrap();
    let mut json = serde_json::to_value(empty).unwrap();
    for figure in ["accuracy", "balanced_accuracy", "macro_f1", "ece", "nll", "accuracy_interval"] {
        assert!(json["tasks"]["age"][figure].is_null(), "{figure}: {json}");
    }
    // Versions before wrote zeros.
    for figure in ["accuracy", "balanced_accuracy", "macro_f1", "ece", "nll"] {
        json["tasks"]["age"][figure] = 0.0.into();
    }
    assert_eq!(&serde_json::from_value::<GroupMetrics>(json).unwrap(), empty);
}

#[test]
fn small_groups_are_compared_with_and_without() {
    let Golden { predictions, encoders, .. } = golden();
    let groups = predictions.evaluate(&encoders, &by(&["age"])).unwrap().groups;
    let small: Vec<_> = groups.iter().filter(|g| g.small).map(|g| g.group.as_str()).collect();
    assert_eq!(small, ["more than 70"], "listed all the same");
    let found = disparities(&predictions, &encoders, &by(&["age"]), &NO_INTERVALS).unwrap();
    let n_groups: Vec<_> = found.iter().map(|d| (d.over, d.n_groups)).collect();
    assert_eq!(n_groups, [(Over::All, 4), (Over::Large, 3)]);
    assert_ne!(found[1].tasks["race"].worst_group, "more than 70");
    let by_gender = disparities(&predictions, &encoders, &by(&["gender"]), &NO_INTERVALS).unwrap();
    assert_eq!(by_gender.len(), 1, "no small groups, one comparison");
}

#[test]
fn temperatures_agree_with_scipy() {
    let Golden { predictions, encoders, expected } = golden();
    let calibration = Calibration::new("val.csv".into(), &predictions, &predictions, &encoders);
    for (task, found) in calibration.tasks.iter() {
        let expected = &expected["tasks"][task.as_str()]["calibrated"];
        let close = |a: f64, key: &str| {
            let b = expected[key].as_f64().unwrap();
            assert!((a - b).abs() < 1e-6, "{task} {key}: expected {b}, found {a}");
        };
        close(found.temperature, "temperature");
        close(found.nll, "nll");
        close(found.ece, "ece");
    }
}

#[test]
fn suspected_labels_agree_with_the_paper_and_cleanlab() {
    let Golden { predictions, encoders, expected } = golden();
    for task in encoders.names() {
        let expected = &expected["tasks"][task.as_str()]["label_errors"];
        let found = label_errors(&predictions, &encoders, task, usize::MAX);
        for (threshold, expected) in found.thresholds.iter().zip(expected["thresholds"].as_array().unwrap()) {
            assert_close(*threshold, expected, "threshold");
        }
        assert_eq!(serde_json::to_value(&found.confident_joint).unwrap(), expected["confident_joint"]);
        let suspects = expected["suspects"].as_array().unwrap();
        assert_eq!(found.n_suspects, suspects.len() as u64);
        for (found, expected) in found.suspects.iter().zip(suspects) {
            assert_eq!(found.file, expected[0].to_string());
            assert_eq!(
                Some(found.suggested.as_str()),
                encoders[task].decode(expected[1].as_u64().unwrap() as u32)
            );
            assert_close(found.margin, &expected[2], "margin");
        }
        assert_eq!(label_errors(&predictions, &encoders, task, 3).suspects, found.suspects[..3]);
    }
}

#[test]
fn the_surest_mistakes_come_first() {
    let Golden { predictions, encoders, .. } = golden();
    let all = mistakes(&predictions, &encoders, &task("race"), usize::MAX);
    let evaluation = predictions.evaluate(&encoders, &[]).unwrap();
    let wrong = (1.0 - evaluation.tasks["race"].accuracy) * predictions.len() as f64;
    assert_eq!(all.len(), wrong.round() as usize);
    assert!(all.windows(2).all(|pair| pair[0].probability >= pair[1].probability));
    for mistake in &all {
        let i: usize = mistake.file.parse().unwrap();
        assert_eq!(Some(mistake.label.as_str()), encoders["race"].decode(predictions.targets["race"][i]));
        assert!(mistake.predicted != mistake.label && mistake.probability >= mistake.label_probability);
    }
    let confusions = top_confusions(&evaluation.confusion["race"], &evaluation.labels["race"], usize::MAX);
    assert_eq!(confusions.iter().map(|c| c.n).sum::<u64>(), all.len() as u64);
    let first = &confusions[0];
    let of_pair = all.iter().filter(|m| m.label == first.label && m.predicted == first.predicted).count();
    assert_eq!(first.n, of_pair as u64);
    assert!(confusions.windows(2).all(|pair| pair[0].n >= pair[1].n));
}

#[test]
fn a_record_is_read_back_as_it_was_written() {
    let Golden { predictions, encoders, .. } = golden();
    let source = EvaluationSource {
        checkpoint: Some("run/checkpoints/best".into()),
        step: Some(4),
        precision: Some("bf16".to_owned()),
        predictions: None,
        join: None,
        csv: "ff_test.csv".into(),
        images: Some("images".into()),
        subset: Some("service_test".to_owned()),
        tta: TestTimeAugmentation::Flip,
        skipped: 1,
    };
    let bootstrap = Bootstrap { resamples: 20, seed: 1 };
    let settings = Settings { group_by: all(), bootstrap, ..Settings::default() };
    let mut record = EvaluationRecord::new(&predictions, &encoders, source, &settings).unwrap();
    record.calibration = Some(Calibration::new("ff_val.csv".into(), &predictions, &predictions, &encoders));
    let dir = tempfile::tempdir().unwrap();
    let path = EvaluationRecord::path(dir.path(), "test");
    record.write(&path).unwrap();
    assert_eq!(EvaluationRecord::read(&path).unwrap(), record);
    fs_err::write(&path, "{").unwrap();
    let message = EvaluationRecord::read(&path).unwrap_err().to_string();
    assert!(message.contains("test.json"), "{message}");
}

/// The fixture is of commit 3ef4d39: `evaluate --calibrate --group-by gender,race` after one step on the sample, with
/// most groups, mistakes and suspects taken out, and paths made relative.
#[test]
fn a_record_of_version_0_1_is_read_and_written_as_it_was() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/record_0_1.json");
    let record = EvaluationRecord::read(&path).unwrap();
    assert_eq!(record.source.checkpoint.as_deref(), Some(Path::new("run/checkpoints/last")));
    assert_eq!(record.evaluation.tasks["age"].accuracy, 0.2);
    assert!(record.calibration.is_some() && !record.disparities.is_empty());
    let written: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
    assert_eq!(serde_json::to_value(&record).unwrap(), written);
}

/// Every second label of gender is not known, no label of race, and the camera of every third sample.
fn with_holes(predictions: &Predictions) -> Predictions {
    let mut holes = predictions.clone();
    holes.targets["gender"].iter_mut().step_by(2).for_each(|target| *target = UNKNOWN);
    holes.targets["race"].fill(UNKNOWN);
    let camera = (0..holes.len()).map(|i| [None, Some("phone"), Some("compact")][i % 3]);
    holes.attributes.push(Attribute::new("camera", camera));
    holes
}

fn chosen(predictions: &Predictions, encoders: &Encoders, choose: impl Fn(usize) -> bool) -> Predictions {
    let places: Vec<usize> = (0..predictions.len()).filter(|&i| choose(i)).collect();
    let mut some = Predictions::of(encoders);
    for &i in &places {
        for (task, encoder) in encoders.iter() {
            let n = encoder.n_classes();
            some.probabilities[task].extend(&predictions.probabilities[task][i * n..][..n]);
            some.targets[task].push(predictions.targets[task][i]);
        }
        some.files.push(predictions.files[i].clone());
    }
    some
}

#[test]
fn samples_without_a_label_count_for_no_figure_of_that_task() {
    let Golden { predictions, encoders, .. } = golden();
    let holes = with_holes(&predictions);
    let settings = Settings {
        group_by: by(&["gender", "camera"]),
        bootstrap: Bootstrap { resamples: 20, seed: 1 },
        n_mistakes: usize::MAX,
        n_suspects: usize::MAX,
        ..Settings::default()
    };
    let found = EvaluationRecord::new(&holes, &encoders, EvaluationSource::default(), &settings).unwrap();
    let of_odd = chosen(&predictions, &encoders, |i| i % 2 == 1);
    let of_odd = EvaluationRecord::new(
        &of_odd,
        &encoders,
        EvaluationSource::default(),
        &Settings { group_by: Vec::new(), ..settings.clone() },
    );
    let (of_odd, gender, race) = (of_odd.unwrap(), task("gender"), task("race"));
    assert_eq!(found.evaluation.tasks["gender"], of_odd.evaluation.tasks["gender"]);
    assert_eq!(found.evaluation.confusion["gender"], of_odd.evaluation.confusion["gender"]);
    assert_eq!(found.mistakes["gender"], of_odd.mistakes["gender"]);
    assert_eq!(found.label_errors["gender"], of_odd.label_errors["gender"]);
    assert_eq!(found.evaluation.n_unknown(&gender), 120);
    assert_eq!(found.evaluation.n_unknown(&race), 240);
    let metrics = &found.evaluation.tasks["race"];
    assert!(
        [metrics.accuracy, metrics.balanced_accuracy, metrics.macro_f1, metrics.ece, metrics.nll]
            .iter()
            .all(|x| x.is_nan())
    );
    assert!(found.mistakes["race"].is_empty() && found.label_errors["race"].suspects.is_empty());
    let calibration = |p: &Predictions| Calibration::new("val.csv".into(), p, p, &encoders);
    let odd = calibration(&chosen(&predictions, &encoders, |i| i % 2 == 1));
    let calibrated = calibration(&holes);
    assert_eq!(calibrated.tasks["gender"], odd.tasks["gender"]);
    assert!(calibrated.tasks["race"].temperature.is_nan() && calibrated.tasks["race"].nll.is_nan());

    // Groups: half of the samples have no gender, a third no camera, two thirds of the half both.
    let not_grouped: Vec<_> =
        found.evaluation.not_grouped.iter().map(|g| (g.by.to_string(), g.n_unknown)).collect();
    assert_eq!(not_grouped, [("gender".into(), 120), ("camera".into(), 80), ("gender,camera".into(), 160)]);
    let phone = found.evaluation.groups.iter().find(|g| g.group == "phone").unwrap();
    let expected = chosen(&predictions, &encoders, |i| i % 3 == 1).evaluate(&encoders, &[]).unwrap();
    assert_eq!(phone.n, 80);
    assert_eq!(phone.tasks["age"].metrics.as_ref(), Some(&expected.tasks["age"]));
    assert_eq!(phone.tasks["race"].metrics, None);
    let by_camera = found.disparities.iter().find(|d| d.by.to_string() == "camera").unwrap();
    assert_eq!((by_camera.n_groups, by_camera.n_unknown), (2, 80));
    assert!(by_camera.tasks["race"].accuracy_difference.value.is_nan());
    assert!(by_camera.tasks["age"].parity_and_odds.is_some());

    // What is NaN is null in files, and NaN again.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("holes.json");
    found.write(&path).unwrap();
    let read = EvaluationRecord::read(&path).unwrap();
    assert_eq!(format!("{read:?}"), format!("{found:?}"));
}

/// A group whose labels of a task are few is small for that task, however many samples it has.
#[test]
fn groups_are_as_large_as_their_known_labels() {
    let Golden { predictions, encoders, .. } = golden();
    let mut holes = predictions.clone();
    let camera = (0..holes.len()).map(|i| Some(["phone", "compact", "webcam"][i % 3]));
    holes.attributes.push(Attribute::new("camera", camera));
    holes.targets["race"].iter_mut().step_by(3).skip(5).for_each(|target| *target = UNKNOWN);
    let found = disparities(&holes, &encoders, &by(&["camera"]), &NO_INTERVALS).unwrap();
    assert_eq!(
        found.iter().map(|d| (d.over, d.n_groups)).collect::<Vec<_>>(),
        [(Over::All, 3), (Over::Large, 3)]
    );
    let kept = chosen(&predictions, &encoders, |i| i % 3 != 0);
    let mut kept = kept;
    kept.attributes
        .push(Attribute::new("camera", (0..kept.len()).map(|i| Some(["compact", "webcam"][i % 2]))));
    let expected = disparities(&kept, &encoders, &by(&["camera"]), &NO_INTERVALS).unwrap();
    assert_eq!(found[1].tasks["race"], expected[0].tasks["race"]);
    assert_ne!(found[0].tasks["race"], found[1].tasks["race"]);
    assert_eq!(found[0].tasks["age"], found[1].tasks["age"]);
}

#[test]
fn nothing_known_at_all_is_an_error_and_so_is_a_column_that_is_not_there() {
    let Golden { mut predictions, encoders, .. } = golden();
    let error = |p: &Predictions, columns: &[&str]| {
        p.evaluate(&encoders, &by(columns)).map(|_| ()).unwrap_err().to_string()
    };
    predictions.attributes.push(Attribute::new("a, b", predictions.files.iter().map(|_| Some("x"))));
    let ids = predictions.files.clone();
    for name in ["id", "number"] {
        predictions.attributes.push(Attribute::new(name, ids.iter().map(|id| Some(id.as_str()))));
    }
    assert_eq!(
        error(&predictions, &["skin"]),
        "expected columns to group by: age, gender, race, a, b, id or number, found \"skin\""
    );
    assert!(error(&predictions, &["a, b"]).contains("without commas"));
    assert_eq!(
        error(&predictions, &["id", "number"]),
        format!("expected at most 20000 groups, found {} by id,number", 241 * 241 - 1)
    );
    predictions.targets.values_mut().for_each(|targets| targets.fill(UNKNOWN));
    assert_eq!(error(&predictions, &[]), "expected samples to evaluate, found 240 without any label");
}

/// One-hot rows are no probabilities.
#[test]
fn labels_without_probabilities_leave_what_needs_them_undefined() {
    let Golden { predictions, encoders, .. } = golden();
    let (mut hard, race) = (predictions.clone(), task("race"));
    for (i, class) in predictions.predicted(&race).into_iter().enumerate() {
        let row = &mut hard.probabilities["race"][i * 3..][..3];
        row.fill(0.0);
        row[class as usize] = 1.0;
    }
    hard.labels_only = vec![race.clone()];
    let settings = Settings { group_by: by(&["gender"]), bootstrap: NO_INTERVALS, ..Settings::default() };
    let record = |p| EvaluationRecord::new(p, &encoders, EvaluationSource::default(), &settings).unwrap();
    let (soft, hard_record) = (record(&predictions), record(&hard));
    let (a, b) = (&soft.evaluation.tasks["race"], &hard_record.evaluation.tasks["race"]);
    assert_eq!((a.accuracy, a.balanced_accuracy, a.macro_f1), (b.accuracy, b.balanced_accuracy, b.macro_f1));
    assert!(b.ece.is_nan() && b.nll.is_nan());
    assert!(hard_record.evaluation.reliability["race"].iter().all(|bin| bin.n == 0));
    assert_eq!(soft.disparities, hard_record.disparities);
    assert!(hard_record.mistakes["race"].iter().all(|mistake| mistake.probability.is_nan()));
    assert_eq!(hard_record.label_errors["race"].n_suspects, 0);
    let calibration = Calibration::new("val.csv".into(), &hard, &hard, &encoders);
    assert!(calibration.tasks["race"].temperature.is_nan() && calibration.tasks["race"].ece.is_nan());
    assert_eq!(soft.evaluation.tasks["age"], hard_record.evaluation.tasks["age"]);
}

/// The normal approximation is the independent answer here: 2,000 samples, a share of 0.3.
#[test]
fn bootstrap_intervals_are_as_wide_as_they_should_be() {
    let n = 2000;
    let share = |times: &[u32]| {
        let right: u32 = times.iter().enumerate().filter(|(i, _)| i % 10 < 3).map(|(_, t)| t).sum();
        vec![Some(f64::from(right) / n as f64), None]
    };
    let bootstrap = Bootstrap { resamples: 4000, seed: 5 };
    let intervals = bootstrap.intervals(n, share);
    let [Some(interval), None] = intervals[..] else { panic!("{intervals:?}") };
    let half = 1.96 * (0.3f64 * 0.7 / n as f64).sqrt();
    assert!((interval.low - (0.3 - half)).abs() < 0.002, "{interval:?}");
    assert!((interval.high - (0.3 + half)).abs() < 0.002, "{interval:?}");
    assert_eq!(bootstrap.intervals(n, share), intervals, "seeded");
    assert_ne!(Bootstrap { seed: 6, ..bootstrap }.intervals(n, share), intervals);
}

fn small_encoders() -> Encoders {
    let labels = |labels: &[&str]| labels.iter().map(|&label| label.to_owned()).collect();
    let labels = [
        (task("age"), labels(&["10-19", "3-9", "more than 70"])),
        (task("gender"), labels(&["F", "M"])),
        (task("race"), labels(&["a", "b", "c"])),
    ];
    encoders(&labels.into_iter().collect())
}

prop_compose! {
    /// Up to 80 samples of [`small_encoders`]' classes.
    fn any_predictions()(
        rows in prop::collection::vec(
            ((0u32..3, 0u32..2, 0u32..3), prop::array::uniform8(0.001f32..1.0)), 1..80)
    ) -> Predictions {
        let mut predictions = Predictions::of(&small_encoders());
        for (i, ((age, gender, race), weights)) in rows.into_iter().enumerate() {
            let drawn = [("age", age, &weights[0..3]), ("gender", gender, &weights[3..5]), ("race", race, &weights[5..8])];
            for (task, target, weights) in drawn {
                let sum: f32 = weights.iter().sum();
                predictions.targets[task].push(target);
                predictions.probabilities[task].extend(weights.iter().map(|w| w / sum));
            }
            predictions.files.push(i.to_string());
        }
        predictions
    }
}

proptest! {
    #[test]
    fn wilson_contains_the_share_and_narrows(n in 1u64..5000, part in 0.0f64..=1.0) {
        let successes = (part * n as f64) as u64;
        let share = successes as f64 / n as f64;
        let interval = wilson(successes, n).unwrap();
        prop_assert!(0.0 <= interval.low && interval.low <= share);
        prop_assert!(share <= interval.high && interval.high <= 1.0 && interval.low < interval.high);
        let more = wilson(4 * successes, 4 * n).unwrap();
        prop_assert!(more.high - more.low < interval.high - interval.low);
    }

    #[test]
    fn groups_of_every_grouping_sum_to_the_whole(predictions in any_predictions()) {
        let evaluation = predictions.evaluate(&small_encoders(), &all()).unwrap();
        for by in Grouping::with_intersections(&all()) {
            let groups: Vec<_> = evaluation.groups.iter().filter(|g| g.by == by).collect();
            prop_assert_eq!(groups.iter().map(|g| g.n).sum::<u64>(), predictions.len() as u64);
            for task in small_encoders().names() {
                let whole = &evaluation.confusion[task];
                for (label, prediction) in (0..whole.n_classes()).flat_map(|l| (0..whole.n_classes()).map(move |p| (l, p))) {
                    let sum: u64 = groups.iter().map(|g| g.tasks[task].confusion.get(label, prediction)).sum();
                    prop_assert_eq!(sum, whole.get(label, prediction));
                }
                let accuracy = |g: &GroupMetrics| g.tasks[task].metrics.as_ref().map_or(0.0, |m| m.accuracy);
                let right: f64 = groups.iter().map(|g| g.n as f64 * accuracy(g)).sum();
                prop_assert!((right / predictions.len() as f64 - evaluation.tasks[task].accuracy).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn the_order_of_samples_and_attributes_changes_nothing(predictions in any_predictions(), turn in 0usize..80) {
        let mut turned = predictions.clone();
        let turn = turn % predictions.len();
        turned.files.rotate_left(turn);
        for task in small_encoders().names() {
            turned.targets[task].rotate_left(turn);
            let n_classes = small_encoders()[task].n_classes();
            turned.probabilities[task].rotate_left(turn * n_classes);
        }
        let encoders = small_encoders();
        let attributes = [by(&["race", "gender"]), by(&["gender", "race"])];
        let one = disparities(&predictions, &encoders, &attributes[0], &NO_INTERVALS).unwrap();
        let other = disparities(&turned, &encoders, &attributes[1], &NO_INTERVALS).unwrap();
        prop_assert_eq!(one.len(), other.len());
        for d in &one {
            let same = |o: &&Disparities| {
                let within = |name: &String| o.by.attributes().contains(name);
                o.over == d.over && o.by.attributes().len() == d.by.attributes().len()
                    && d.by.attributes().iter().all(within)
            };
            let o = other.iter().find(same).unwrap();
            for task in small_encoders().names() {
                let (a, b) = (&d.tasks[task], &o.tasks[task]);
                prop_assert_eq!(a.accuracy_difference, b.accuracy_difference);
                prop_assert_eq!(&a.parity_and_odds, &b.parity_and_odds);
            }
        }
    }

    #[test]
    fn disparities_are_shares_and_zero_for_one_and_the_same(predictions in any_predictions()) {
        for d in disparities(&predictions, &small_encoders(), &all(), &NO_INTERVALS).unwrap() {
            for t in d.tasks.values() {
                prop_assert!(t.worst_accuracy <= t.best_accuracy);
                prop_assert!((0.0..=1.0).contains(&t.accuracy_difference.value));
                for class in t.parity_and_odds.iter().flat_map(|p| &p.classes) {
                    let (difference, ratio) = (class.demographic_parity_difference, class.demographic_parity_ratio);
                    prop_assert!(difference.is_some_and(|x| (0.0..=1.0).contains(&x)));
                    // Equal rates and a ratio of one are the same thing.
                    prop_assert!(ratio.is_none_or(|r| (r == 1.0) == (difference == Some(0.0))));
                }
            }
        }
    }

    #[test]
    fn a_temperature_never_raises_the_loss_that_it_was_fitted_on(predictions in any_predictions()) {
        let encoders = small_encoders();
        let before = predictions.evaluate(&encoders, &[]).unwrap();
        for task in small_encoders().names() {
            let temperature = Temperature::fit(&predictions, task);
            let after = temperature.judge(&predictions, &encoders, task);
            prop_assert!(after.nll <= before.tasks[task].nll + 1e-6, "{} > {}", after.nll, before.tasks[task].nll);
        }
    }

    #[test]
    fn the_confident_joint_counts_suspects_and_is_deaf_to_the_order_of_classes(predictions in any_predictions()) {
        for task in small_encoders().names() {
            let found = label_errors(&predictions, &small_encoders(), task, usize::MAX);
            let joint = &found.confident_joint;
            let off = joint.cells().filter(|(label, class, _)| label != class);
            prop_assert_eq!(off.map(|(.., n)| n).sum::<u64>(), found.n_suspects);
            prop_assert_eq!(found.suspects.len() as u64, found.n_suspects);
            prop_assert!(found.suspects.windows(2).all(|pair| pair[0].margin <= pair[1].margin));
            prop_assert!(found.suspects.iter().all(|s| s.label != s.suggested));
        }
    }
}

//! Comparisons against scikit-learn, statsmodels, SciPy and Fairlearn (`compare_golden.py` made the numbers), and
//! requirements on them and on evaluations.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use ff_core::{Encoders, LabelEncoder, Order, PerTask, Schema, Task, TaskName, UNKNOWN};
use ff_eval::{
    Attribute, Bootstrap, Comparison, Difference, EvaluationRecord, EvaluationSource, Figure, Outcome,
    Predictions, Requirement, SMALL_GROUP, Settings, Side, compare,
};
use serde_json::Value;

const NO_INTERVALS: Bootstrap = Bootstrap { resamples: 0, seed: 0 };

struct Golden {
    a: Predictions,
    b: Predictions,
    encoders: Encoders,
    expected: Value,
}

fn golden() -> Golden {
    let first: Value = serde_json::from_str(include_str!("evaluation_golden.json")).unwrap();
    let expected: Value = serde_json::from_str(include_str!("compare_golden.json")).unwrap();
    let schema = Schema::fairface();
    let encoder = |task: &Task| {
        let labels = serde_json::from_value(first["labels"][task.name.as_str()].clone()).unwrap();
        LabelEncoder::from_sorted(task.clone(), labels).unwrap()
    };
    let encoders = Encoders::new(schema.per_task(encoder)).unwrap();
    let ids = |value: &Value| serde_json::from_value::<Vec<u32>>(value.clone()).unwrap();
    let predictions = |golden: &Value| {
        let targets = schema.per_task(|task| ids(&first["targets"][task.name.as_str()]));
        let parts = schema.per_task(|task| ids(&golden["probabilities_1024"][task.name.as_str()]));
        Predictions {
            probabilities: parts.map(|parts| parts.iter().map(|&p| p as f32 / 1024.0).collect()),
            files: (0..targets["age"].len()).map(|i| format!("{i}.jpg")).collect(),
            targets,
            ..Predictions::default()
        }
    };
    Golden { a: predictions(&first), b: predictions(&expected), encoders, expected }
}

fn by(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn side<'a>(name: &'a str, predictions: &'a Predictions, encoders: &'a Encoders) -> Side<'a> {
    Side { name, predictions, encoders }
}

/// The row of a figure of a task, over all samples, in a group, or of a grouping's gap.
fn row<'a>(
    found: &'a Comparison,
    figure: &str,
    task: &str,
    by: Option<&str>,
    group: Option<&str>,
) -> &'a Difference {
    let same = |row: &&Difference| {
        row.figure.name() == figure
            && row.task.as_ref().map_or("", TaskName::as_str) == task
            && row.by.as_ref().map(ToString::to_string).as_deref() == by
            && row.group.as_deref() == group
    };
    found.differences.iter().find(same).unwrap_or_else(|| panic!("{figure} of {task} by {by:?} {group:?}"))
}

#[track_caller]
fn assert_close(found: f64, expected: &Value) {
    assert!((found - expected.as_f64().unwrap()).abs() < 1e-9, "expected {expected}, found {found}");
}

#[test]
fn figures_and_tests_agree_with_scikit_learn_and_statsmodels() {
    let Golden { a, b, encoders, expected } = golden();
    let found = compare(side("a", &a, &encoders), side("b", &b, &encoders), &by(&["gender"]), &NO_INTERVALS);
    let found = found.unwrap();
    for expected in expected["rows"].as_array().unwrap() {
        let (task, group) = (expected["task"].as_str().unwrap(), expected["group"].as_str());
        for (figure, a) in expected["a"].as_object().unwrap() {
            let row = row(&found, figure, task, group.map(|_| "gender"), group);
            assert_eq!(row.n, expected["n"]);
            assert_close(row.a, a);
            assert_close(row.b, &expected["b"][figure]);
            assert_eq!(row.difference, row.b - row.a);
            assert_eq!((row.low, row.high), (None, None), "no resamples, no interval");
        }
    }
    for (test, expected) in found.mcnemar.iter().filter(|t| t.by.is_none()).zip(["age", "gender", "race"]) {
        assert_eq!(test.task, expected);
    }
    for expected in expected["tests"].as_array().unwrap() {
        let group = expected["group"].as_str();
        let same = |test: &&ff_eval::McNemar| {
            test.task == expected["task"].as_str().unwrap() && test.group.as_deref() == group
        };
        let test = found.mcnemar.iter().find(same).unwrap();
        let table = serde_json::json!([[test.both_right, test.only_a], [test.only_b, test.both_wrong]]);
        assert_eq!(table, expected["table"]);
        assert_close(test.exact_p, &expected["exact_p"]);
        assert_close(test.chi_square, &expected["chi_square"]);
        assert_close(test.chi_square_p, &expected["chi_square_p"]);
        let row = row(&found, "accuracy", test.task.as_str(), group.map(|_| "gender"), group);
        assert_eq!(row.p, Some(test.exact_p));
    }
    for (task, gaps) in expected["gaps"].as_object().unwrap() {
        for (figure, both) in gaps.as_object().unwrap() {
            let row = row(&found, figure, task, Some("gender"), None);
            assert_close(row.a, &both[0]);
            assert_close(row.b, &both[1]);
        }
    }
    let mean = row(&found, "accuracy", "", None, None);
    let sum: f64 = encoders.names().map(|task| row(&found, "accuracy", task.as_str(), None, None).b).sum();
    assert!((mean.b - sum / 3.0).abs() < 1e-12 && mean.p.is_none() && mean.n == 240);
}

/// 20,000 resamples of SciPy's against 4,000 of ours: both ends wander by a few thousandths.
#[test]
fn paired_intervals_agree_with_scipy() {
    let Golden { a, b, encoders, expected } = golden();
    let bootstrap = Bootstrap { resamples: 4000, seed: 3 };
    let found = compare(side("a", &a, &encoders), side("b", &b, &encoders), &[], &bootstrap).unwrap();
    for (task, intervals) in expected["intervals"].as_object().unwrap() {
        for (figure, ends) in intervals.as_object().unwrap() {
            let row = row(&found, figure, task, None, None);
            let [low, high] = [0, 1].map(|i| ends[i].as_f64().unwrap());
            let tolerance = 0.06 * (high - low);
            assert!((row.low.unwrap() - low).abs() < tolerance, "{task} {figure}: {:?} {low}", row.low);
            assert!((row.high.unwrap() - high).abs() < tolerance, "{task} {figure}: {:?} {high}", row.high);
        }
    }
}

#[test]
fn a_set_against_itself_differs_in_nothing() {
    let Golden { a, encoders, .. } = golden();
    let bootstrap = Bootstrap { resamples: 20, seed: 1 };
    let found =
        compare(side("a", &a, &encoders), side("b", &a, &encoders), &by(&["gender", "race"]), &bootstrap);
    let found = found.unwrap();
    for row in found.differences.iter().filter(|row| !row.difference.is_nan()) {
        assert_eq!((row.difference, row.low, row.high), (0.0, Some(0.0), Some(0.0)), "{row:?}");
        assert!(row.p.is_none_or(|p| p == 1.0));
    }
    // Not defined, and told so: parity of gender by gender, and one-off without an order.
    assert!(row(&found, "equalized_odds", "gender", Some("gender"), None).difference.is_nan());
    assert!(row(&found, "one_off", "race", None, None).a.is_nan());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("comparison.json");
    found.write(&path).unwrap();
    let read = Comparison::read(&path).unwrap();
    assert_eq!(format!("{read:?}"), format!("{found:?}"), "what is NaN is null in files, and NaN again");
}

/// Other order, other classes, other tasks, and samples of one alone.
#[test]
fn samples_go_together_by_file_and_classes_by_label() {
    let Golden { a, b, encoders, .. } = golden();
    let expected = compare(side("a", &a, &encoders), side("b", &b, &encoders), &[], &NO_INTERVALS).unwrap();
    // Of the second: its samples back to front, under other paths, a class that never occurs, and no race.
    let mut labels = encoders["age"].labels().to_vec();
    labels.insert(0, "-".to_owned());
    let nominal = |name: &str, labels: Vec<String>| {
        LabelEncoder::from_sorted(Task::new(name).with_order(Order::Nominal), labels).unwrap()
    };
    let other: PerTask<LabelEncoder> = [("age", labels), ("gender", encoders["gender"].labels().to_vec())]
        .into_iter()
        .map(|(name, labels)| (TaskName::new(name).unwrap(), nominal(name, labels)))
        .collect();
    let other = Encoders::new(other).unwrap();
    let mut turned = Predictions::of(&other);
    for i in (0..b.len()).rev() {
        let age = &b.probabilities["age"][i * 4..][..4];
        turned.probabilities["age"].extend([0.0].iter().chain(age));
        turned.probabilities["gender"].extend(&b.probabilities["gender"][i * 2..][..2]);
        turned.targets["age"].push(b.targets["age"][i] + 1);
        // The first knows this one.
        turned.targets["gender"].push(if i == 7 { UNKNOWN } else { b.targets["gender"][i] });
        turned.files.push(format!("elsewhere/{i}.jpg"));
    }
    let mut more = a.clone();
    more.files.iter_mut().take(2).for_each(|file| *file = format!("only-{file}"));
    // Classes have the first's order: with "-" there is none.
    let found = compare(side("a", &a, &encoders), side("b", &turned, &other), &[], &NO_INTERVALS).unwrap();
    assert_eq!(found.left_out, ["race"]);
    for task in ["age", "gender"] {
        for figure in ["accuracy", "balanced_accuracy", "macro_f1", "ece", "nll"] {
            let (x, y) = (row(&found, figure, task, None, None), row(&expected, figure, task, None, None));
            assert!(
                (x.a - y.a).abs() < 1e-12 && (x.b - y.b).abs() < 1e-12,
                "{figure} of {task}: {x:?} {y:?}"
            );
            assert_eq!(x.p, y.p);
        }
    }
    let found = compare(side("a", &more, &encoders), side("b", &b, &encoders), &[], &NO_INTERVALS).unwrap();
    assert_eq!((found.n, found.only_a.n, found.only_b.n), (238, 2, 2));
    assert_eq!(found.only_a.first, ["only-0.jpg", "only-1.jpg"]);

    let mut relabelled = b.clone();
    relabelled.targets["race"][5] = (b.targets["race"][5] + 1) % 3;
    let error = compare(side("x", &a, &encoders), side("y", &relabelled, &encoders), &[], &NO_INTERVALS);
    let message = error.unwrap_err().to_string();
    assert!(message.contains("the same samples: found race of 5.jpg labelled \""), "{message}");
    relabelled.files.iter_mut().for_each(|file| file.push('x'));
    let error = compare(side("x", &a, &encoders), side("y", &relabelled, &encoders), &[], &NO_INTERVALS);
    assert_eq!(
        error.unwrap_err().to_string(),
        "expected two sets of predictions of the same samples: found no file in both: \"0.jpg\" in x, \"0.jpgx\" in y"
    );
}

/// The same photo twice is two faces.
#[test]
fn files_that_stand_several_times_go_together_in_order() {
    let Golden { mut a, mut b, encoders, .. } = golden();
    let expected = compare(side("a", &a, &encoders), side("b", &b, &encoders), &[], &NO_INTERVALS).unwrap();
    for predictions in [&mut a, &mut b] {
        predictions.files.iter_mut().enumerate().for_each(|(i, file)| *file = format!("{}.jpg", i / 3));
    }
    let found = compare(side("a", &a, &encoders), side("b", &b, &encoders), &[], &NO_INTERVALS).unwrap();
    assert_eq!(format!("{:?}", found.differences), format!("{:?}", expected.differences));
}

#[track_caller]
fn check(record: &EvaluationRecord, text: &str) -> Outcome {
    text.parse::<Requirement>().unwrap().check(record).unwrap()
}

#[test]
fn requirements_on_an_evaluation_are_met_or_not_or_undefined() {
    let Golden { mut a, encoders, .. } = golden();
    let rare = (0..a.len()).map(|i| Some(if i < 3 { "rare" } else { "usual" }));
    a.attributes.push(Attribute::new("rarity", rare));
    let settings = Settings {
        group_by: by(&["gender", "age", "rarity"]),
        bootstrap: Bootstrap { resamples: 50, seed: 1 },
        ..Settings::default()
    };
    let record = EvaluationRecord::new(&a, &encoders, EvaluationSource::default(), &settings).unwrap();
    let age = &record.evaluation.tasks["age"];

    let outcome = check(&record, "age.accuracy>=0.4");
    assert!(outcome.met && outcome.why.is_none());
    assert_eq!((outcome.value, outcome.n), (Some(age.accuracy), 240));
    assert!((outcome.margin.unwrap() - (age.accuracy - 0.4)).abs() < 1e-12);
    let (low, high) = (outcome.low.unwrap(), outcome.high.unwrap());
    assert!(low < 0.4 && age.accuracy < high, "Wilson's interval: {low} {high}");
    let outcome = check(&record, "age.accuracy@lower>=0.4");
    assert!(!outcome.met);
    assert!((outcome.margin.unwrap() - (low - 0.4)).abs() < 1e-12);
    assert!(check(&record, "age.accuracy@upper<=0.5").met);
    assert!(!check(&record, &format!("age.accuracy>{}", age.accuracy)).met);
    assert!(check(&record, &format!("age.accuracy>={}", age.accuracy)).met);
    assert!(check(&record, &format!("age.accuracy<={}", age.accuracy)).met);
    let outcome = check(&record, "accuracy>=0.99");
    assert!(!outcome.met && outcome.margin.unwrap() < 0.0);
    assert_eq!(
        check(&record, "age.one_off<=0.5").to_string(),
        "not met: age.one_off<=0.5, 0.7750, n = 240, margin -0.2750"
    );

    // Gaps: of the large groups, with the bootstrap's interval, and columns in any order.
    let large =
        record.disparities.iter().find(|d| d.by.to_string() == "age" && d.over == ff_eval::Over::Large);
    let race = &large.unwrap().tasks["race"];
    let outcome = check(&record, "race.accuracy_gap[age]<=1");
    assert_eq!(outcome.value, Some(race.accuracy_difference.value));
    assert_eq!(outcome.low, race.accuracy_difference.interval.map(|interval| interval.low));
    assert!(outcome.n < 240 && outcome.met, "without the small group: {outcome:?}");
    assert_eq!(check(&record, "race.worst_accuracy[age]>=0").value, Some(race.worst_accuracy));
    assert!(check(&record, "race.worst_accuracy[age]@lower>=0").met);
    let parity = race.parity_and_odds.as_ref().unwrap();
    let value = |text| check(&record, text).value;
    assert_eq!(value("race.demographic_parity[age]<=1"), Some(parity.demographic_parity_difference.value));
    assert_eq!(value("race.equalized_odds[age]<=1"), Some(parity.equalized_odds_difference.value));
    assert_eq!(value("race.accuracy_gap[age,gender]<=1"), value("race.accuracy_gap[gender,age]<=1"));

    // What is not defined passes nothing, and says why.
    for (text, why) in [
        ("race.accuracy_gap[rarity]<=1", "fewer than two groups have 30 samples or more"),
        ("race.one_off>=0", "the classes of race have no order"),
        ("age.equalized_odds[age]<=1", "groups by age itself differ in what age is predicted"),
        ("age.ece@upper<=1", "ece of one evaluation has no interval"),
        ("accuracy@lower>=0", "the mean over tasks has no interval"),
    ] {
        let outcome = check(&record, text);
        assert!(!outcome.met && outcome.margin.is_none(), "{text}");
        assert_eq!(outcome.why.as_deref(), Some(why), "{text}");
    }
    assert_eq!(SMALL_GROUP, 30);

    // What was not evaluated is no figure that fails, but a requirement that cannot be read.
    for (text, reason) in [
        ("eyes.accuracy>=0", "expected a task: age, gender or race, found \"eyes\""),
        (
            "age.accuracy_gap[camera]<=1",
            "expected groups that were evaluated: by gender, age, rarity, gender,age,",
        ),
        ("age.accuracy.diff>=0", "expected a figure of one evaluation, found a difference of two"),
    ] {
        let message = text.parse::<Requirement>().unwrap().check(&record).unwrap_err().to_string();
        assert!(message.starts_with(&format!("requirement {text:?}: {reason}")), "{message}");
    }
}

#[test]
fn a_task_without_labels_and_labels_without_probabilities_meet_nothing() {
    let Golden { mut a, encoders, .. } = golden();
    a.targets["race"].fill(UNKNOWN);
    a.labels_only.push(TaskName::new("age").unwrap());
    let settings = Settings { group_by: by(&["gender"]), bootstrap: NO_INTERVALS, ..Settings::default() };
    let record = EvaluationRecord::new(&a, &encoders, EvaluationSource::default(), &settings).unwrap();
    for (text, why) in [
        ("race.accuracy>=0", "no label of race is known"),
        ("accuracy>=0", "a task has no known labels"),
        ("age.nll<=100", "nll needs probabilities"),
        ("race.accuracy_gap[gender]<=1", "fewer than two groups have 30 samples or more"),
        ("age.accuracy_gap[gender]@upper<=1", "there were no resamples"),
    ] {
        let outcome = check(&record, text);
        assert_eq!((outcome.met, outcome.why.as_deref()), (false, Some(why)), "{text}");
    }
}

#[test]
fn requirements_on_a_comparison_are_of_differences() {
    let Golden { a, b, encoders, .. } = golden();
    let bootstrap = Bootstrap { resamples: 200, seed: 1 };
    let found =
        compare(side("a", &a, &encoders), side("b", &b, &encoders), &by(&["gender"]), &bootstrap).unwrap();
    let check = |text: &str| text.parse::<Requirement>().unwrap().check_comparison(&found);
    let mean = row(&found, "accuracy", "", None, None);
    let outcome = check("accuracy.diff@lower>=-0.01").unwrap();
    assert!(outcome.met);
    assert_eq!((outcome.value, outcome.low, outcome.n), (Some(mean.difference), mean.low, 240));
    assert!((outcome.margin.unwrap() - (mean.low.unwrap() + 0.01)).abs() < 1e-12);
    assert!(!check("race.accuracy.diff@upper<=0").unwrap().met);
    assert!(check("race.accuracy_gap[gender].diff<=1").unwrap().met);
    let outcome = check("race.one_off.diff>=0").unwrap();
    assert_eq!((outcome.met, outcome.why.as_deref()), (false, Some("one_off is not defined here")));
    for (text, reason) in [
        ("accuracy>=0", "expected a difference such as accuracy.diff, found a figure of one"),
        ("eyes.ece.diff<=0", "expected a task: age, gender or race, found \"eyes\""),
        ("race.accuracy_gap[age].diff<=0", "expected groups that were evaluated: by gender, found [age]"),
    ] {
        let message = check(text).unwrap_err().to_string();
        assert_eq!(message, format!("requirement {text:?}: {reason}"));
    }
    assert!(Figure::all().all(|figure| found.differences.iter().any(|row| row.figure == figure)));
}

#[test]
fn requirements_stand_in_a_toml_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("require.toml");
    let read = |text: &str| {
        fs_err::write(&path, text).unwrap();
        let found = Requirement::read_all(&path);
        found.map_err(|error| error.to_string().replace(&path.display().to_string(), "F"))
    };
    let text = "[[tasks]]\nname = 'age'\n[require]\n'age.accuracy' = '>=0.55'\n'age.accuracy_gap[sex]' = ['<=0.1', '>=0']\n";
    let found = read(text).unwrap();
    let texts: Vec<&str> = found.iter().map(Requirement::text).collect();
    assert_eq!(texts, ["age.accuracy>=0.55", "age.accuracy_gap[sex]<=0.1", "age.accuracy_gap[sex]>=0"]);
    let schema = ff_eval::SchemaFile::read(&path).unwrap();
    assert_eq!(schema.schema.len(), 1, "one file may hold both");
    assert!(
        read("[require]\n'age.acc' = '>=0'\n")
            .unwrap_err()
            .starts_with("F: requirement \"age.acc>=0\": expected")
    );
    assert!(read("[require]\n'age.ece' = 1\n").unwrap_err().contains("expected a text such as \">=0.5\""));
    assert!(read("").unwrap_err().contains("missing field `require`"));
}

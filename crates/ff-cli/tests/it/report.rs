//! The report as a user meets it: made by the binary from a run folder, opened in a browser.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ff_core::{Encoders, LabelEncoder, PerTask, Schema, Task};
use ff_eval::{
    Bootstrap, ConfusionMatrix, EvaluationRecord, EvaluationSource, Predictions, Settings, TaskMetrics,
};
use ff_report::{EvaluationPage, ModelCard, RunReport};
use ff_train::machine::Machine;
use ff_train::records::{EpochRecord, Record, Seconds, StepRecord};
use ff_train::run::{CheckpointName, DataRecord, RunDir, SplitRecord};
use ff_train::{ConfigBuilder, Preset};
use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::chromium::{Chromium, Shown};
use crate::workplace::{assert_exit, json, sample, stderr};

/// A label that would break a page which did not escape it.
pub const HOSTILE: &str = "<script>alert('&')</script>";

/// A run folder without a model: a run of 3 epochs as its records tell it.
pub fn run_folder(steps_per_epoch: u64) -> (TempDir, RunDir) {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(Some(&dir.path().join("fixture")), "train").unwrap();
    let config =
        ConfigBuilder::new(Preset::Sample, Path::new("")).set("train.epochs", Some(3)).resolve().unwrap();
    let split = SplitRecord { rows: 7, unknown: per_task([0, 1, 2]) };
    let data = DataRecord { train: split.clone(), val: split.clone(), test: split, fairface: false };
    run.describe(&config, "random", None, &Machine::look(), &encoders(), &data).unwrap();
    let mut lines = String::new();
    for epoch in 1..=3 {
        for step in (epoch - 1) * steps_per_epoch + 1..=epoch * steps_per_epoch {
            push_line(&mut lines, &Record::Step(step_record(epoch, step, 3 * steps_per_epoch)));
        }
        push_line(&mut lines, &Record::Epoch(Box::new(epoch_record(epoch, epoch * steps_per_epoch))));
    }
    fs::write(run.path().join("metrics.jsonl"), lines).unwrap();
    (dir, run)
}

fn push_line(lines: &mut String, record: &Record) {
    lines.push_str(&serde_json::to_string(record).unwrap());
    lines.push('\n');
}

fn encoders() -> Encoders {
    let labels = |task: &Task| match task.name.as_str() {
        "age" => ["0-2", "20-29", "3-9", "more than 70"].as_slice(),
        "gender" => &["Female", "Male"],
        _ => &[HOSTILE, "Black", "White"],
    };
    let fit = |task: &Task| LabelEncoder::fit(task.clone(), labels(task).iter().copied()).unwrap();
    Encoders::new(Schema::fairface().per_task(fit)).unwrap()
}

fn per_task<T>(values: [T; 3]) -> PerTask<T> {
    Schema::fairface().names().cloned().zip(values).collect()
}

fn step_record(epoch: u64, step: u64, total: u64) -> StepRecord {
    let progress = step as f64 / total as f64;
    let wobble = ((step * 7919) % 101) as f64 / 500.0;
    let losses = per_task([2.2 - progress + wobble, 0.7 - progress / 3.0, 1.9 - progress]);
    let loss = losses.values().sum();
    let lr = 1e-4 * (1.0 - progress);
    let grad_norm = 3.0 + 10.0 * wobble;
    let weights = Some(per_task([1.0, 1.0 + progress, 1.0 - progress / 2.0]));
    StepRecord { epoch, step, loss, losses, lr, grad_norm, weights, images: 32, seconds: 0.25 }
}

/// Epoch 2 is the best. The moving average is right 5 points more often.
fn epoch_record(epoch: u64, step: u64) -> EpochRecord {
    let accuracy = [0.3, 0.5, 0.45][epoch as usize - 1];
    let nll = [1.5, 1.2, 1.4][epoch as usize - 1];
    let figures = |accuracy: f64| {
        let (balanced_accuracy, macro_f1) = (accuracy - 0.1, accuracy - 0.12);
        let metrics =
            |one_off| TaskMetrics { accuracy, one_off, balanced_accuracy, macro_f1, ece: 0.05, nll };
        per_task([Some(0.8), None, None].map(metrics))
    };
    EpochRecord {
        epoch,
        step,
        train_loss: Some(4.8 - epoch as f64),
        val: figures(accuracy),
        ema: Some(figures(accuracy + 0.05)),
        confusion: encoders().n_classes().map(confusion),
        best: epoch <= 2,
        images_per_s: 120.0,
        seconds: Seconds { loader: 1.0, forward: 10.0, backward: 20.0, optimizer: 2.0, evaluation: 5.0 },
    }
}

fn confusion(n_classes: usize) -> ConfusionMatrix {
    let cell = |row: usize, column: usize| if row == column { 9 } else { (row + 2 * column) as u64 % 4 };
    let row = |row| (0..n_classes).map(|column| cell(row, column)).collect();
    ConfusionMatrix::from_rows(&(0..n_classes).map(row).collect::<Vec<_>>()).unwrap()
}

/// Writes an evaluation of 120 of the sample's faces into the run: everything right, but for every other gender among
/// the faces labelled Black.
pub fn evaluate(run: &RunDir, name: &str) {
    let encoders = encoders();
    let rows = fs::read_to_string(sample().join("splits/ff_val.csv")).unwrap();
    let files: Vec<String> =
        rows.lines().skip(1).map(|row| row.split(',').next().unwrap().to_owned()).collect();
    let n = files.len();
    let targets =
        encoders.n_classes().map(|classes| (0..n).map(|i| (i % classes) as u32).collect::<Vec<_>>());
    let black = encoders["race"].encode("Black").unwrap();
    let probabilities = encoders.each(|task, encoder| {
        let row = |i: usize| {
            let classes = encoder.n_classes();
            let wrong = *task == "gender" && targets["race"][i] == black && i % 4 < 2;
            let predicted = (targets[task][i] as usize + usize::from(wrong)) % classes;
            let rest = 0.1 / (classes - 1) as f32;
            (0..classes).map(move |class| if class == predicted { 0.9 } else { rest })
        };
        (0..n).flat_map(row).collect()
    });
    let predictions = Predictions { probabilities, targets, files, ..Predictions::default() };
    let source = EvaluationSource {
        checkpoint: Some(run.checkpoint(CheckpointName::Best)),
        csv: "splits/ff_val.csv".into(),
        images: Some(sample().join("images")),
        ..EvaluationSource::default()
    };
    let bootstrap = Bootstrap { resamples: 20, seed: 1 };
    let group_by = encoders.names().map(ToString::to_string).collect();
    let settings = Settings { group_by, bootstrap, ..Settings::default() };
    let record = EvaluationRecord::new(&predictions, &encoders, source, &settings).unwrap();
    record.write(&EvaluationRecord::path(run.path(), name)).unwrap();
}

pub fn fairface(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fairface")).args(args).env_remove("RUST_LOG").output().unwrap()
}

/// The paths of `report.html` and `report.json`.
fn make_report(run: &RunDir) -> (PathBuf, PathBuf) {
    let output = fairface(&["report", "--run", run.path().to_str().unwrap(), "--json"]);
    assert_exit(&output, 0);
    let written = json(&output);
    let path = |key: &str| PathBuf::from(written[key].as_str().unwrap());
    (path("path"), path("data"))
}

/// The ids of the figures of a trained run, and of its evaluation `name`.
fn figures(name: &str) -> Vec<String> {
    let all = ["loss", "learning-rate", "gradient", "weights", "speed", "time"].map(str::to_owned);
    let per_task = |figures: &[&str]| {
        let tasks = ["age", "gender", "race"];
        figures.iter().flat_map(|name| tasks.map(|task| format!("{name}-{task}"))).collect::<Vec<_>>()
    };
    let training = per_task(&["loss", "accuracy", "confusion"]);
    let groups = ["groups-age", "groups-gender", "groups-race", "confusion", "calibration"];
    let evaluation = per_task(&groups).into_iter().map(|figure| format!("{name}-{figure}"));
    all.into_iter().chain(training).chain(evaluation).map(|figure| format!("fig-{figure}")).collect()
}

#[test]
fn the_data_behind_the_report_stand_beside_it() {
    let (_dir, run) = run_folder(20);
    let (page, data) = make_report(&run);
    assert!(page.is_file());
    let report: Value = serde_json::from_slice(&fs::read(data).unwrap()).unwrap();
    assert_eq!((&report["steps"], &report["images"]), (&60.into(), &(60 * 32).into()));
    assert_eq!(report["best"], 1, "the last epoch that was best when it ended");
    let age = &report["tasks"]["age"];
    assert_eq!((&age["accuracy"], &age["n"]), (&0.55.into(), &54.into()), "the moving average's");
    let interval = [0, 1].map(|i| age["accuracy_interval"][i].as_f64().unwrap());
    assert!(interval[0] < 0.55 && 0.55 < interval[1], "{interval:?}");
    assert_eq!(report["series"].as_array().unwrap().len(), 60);
    assert_eq!(report["display_order"]["age"], serde_json::json!([0, 2, 1, 3]), "by age, not by name");
    assert_eq!(report["provenance"]["init"], "random");
    assert_eq!(report["config"]["train"]["epochs"], 3);
    let findings = report["findings"].to_string();
    for expected in
        ["random weights", "Overfitting: the validation loss was lowest in epoch 2 (3.60) and is 4.20"]
    {
        assert!(findings.contains(expected), "{expected} is missing in {findings}");
    }
    assert!(!findings.contains("waited for images"), "1 s of 33 s is nothing: {findings}");
}

#[test]
fn a_long_run_has_a_small_report() {
    let (_dir, run) = run_folder(35_000);
    let (page, data) = make_report(&run);
    let (_short_dir, short) = run_folder(100);
    let (short_page, _) = make_report(&short);
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    assert!(size(&page) < size(&short_page) * 5 / 4, "{} and {} bytes", size(&page), size(&short_page));
    assert!(size(&page) < 300_000 && size(&data) < 300_000, "{} and {} bytes", size(&page), size(&data));
}

#[test]
fn a_run_that_has_not_begun_has_a_report_and_no_run_has_none() {
    let (dir, run) = run_folder(1);
    fs::remove_file(run.path().join("metrics.jsonl")).unwrap();
    let (page, _) = make_report(&run);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("nothing recorded yet") && page.contains("nothing has been validated"));

    let output = fairface(&["report", "--run", dir.path().to_str().unwrap()]);
    assert_exit(&output, 1);
    assert!(
        stderr(&output).contains("expected a run folder with config.toml, found none"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn an_evaluation_is_told_by_its_gaps_and_shown_by_its_faces() {
    let (_dir, run) = run_folder(20);
    evaluate(&run, "val");
    let (page, data) = make_report(&run);
    let report: Value = serde_json::from_slice(&fs::read(data).unwrap()).unwrap();
    assert_eq!((&report["audits"][0]["name"], &report["audits"][0]["n"]), (&"val".into(), &120.into()));
    // 40 faces a race: 20 of 40 genders right among those labelled Black. Wilson: 35.2 to 64.8, and 91.2 to 100.
    let gap = "Evaluation: val, gender by race: accuracy is 50.0 % (35.2 % to 64.8 %) for Black, but 100.0 % (91.2 % to \
               100.0 %) for";
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding.as_str().unwrap().starts_with(gap)), "{findings:#?}");

    let page = fs::read_to_string(page).unwrap();
    let mistakes =
        page.split("id=\"fig-val-mistakes-gender\"").nth(1).unwrap().split("</div>").next().unwrap();
    assert_eq!(mistakes.matches("<li><i class=\"face face-").count(), 20, "{mistakes}");
    assert!(mistakes.contains("val/639.jpg") && mistakes.contains("8 more"), "{mistakes}");
    assert!(page.contains("id=\"fig-val-mistakes-age\"><h4>Age</h4><p>None.</p>"), "no mistake, no gallery");
    let once = page.matches("{background-image:url(data:image/jpeg;base64,").count();
    assert_eq!(once, 20, "faces that are both mistaken and suspected are in the file once");
}

#[test]
fn faces_that_moved_away_leave_their_names() {
    let (_dir, run) = run_folder(1);
    evaluate(&run, "val");
    let path = EvaluationRecord::path(run.path(), "val");
    let mut record = EvaluationRecord::read(&path).unwrap();
    record.source.images = Some("moved".into());
    record.write(&path).unwrap();
    let page = fs::read_to_string(make_report(&run).0).unwrap();
    assert!(page.contains("not readable") && page.contains("val/639.jpg") && !page.contains("base64,"));
}

/// The counts of another run's labels were a panic.
#[test]
fn a_record_that_does_not_fit_the_run_is_an_error_of_its_file_and_line() {
    let (_dir, run) = run_folder(1);
    let path = run.path().join("metrics.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let second: Value = serde_json::from_str(text.lines().nth(3).unwrap()).unwrap();
    for (confusion, expected) in [
        (
            serde_json::json!([[1, 0], [0, 1]]),
            "confusion of race: expected 3 classes, as the run has labels, found 2",
        ),
        (serde_json::json!([[1, 0], [0]]), "expected 2 counts in each of 2 rows, found 1 in row 2"),
    ] {
        let mut damaged = second.clone();
        damaged["confusion"]["race"] = confusion;
        fs::write(&path, text.replace(&second.to_string(), &damaged.to_string())).unwrap();
        let output = fairface(&["report", "--run", run.path().to_str().unwrap()]);
        assert_exit(&output, 1);
        let message = stderr(&output);
        assert!(message.contains("metrics.jsonl: line 4: ") && message.contains(expected), "{message}");
    }
    fs::write(&path, text).unwrap();
    evaluate(&run, "val");
    let path = EvaluationRecord::path(run.path(), "val");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["labels"]["age"].as_array_mut().unwrap().pop();
    fs::write(&path, record.to_string()).unwrap();
    let message = RunReport::read(&run).unwrap_err().to_string();
    assert!(
        message.ends_with("val.json: confusion of age: expected 3 classes, as there are labels, found 4"),
        "{message}"
    );
}

/// A run of which every step of an epoch was skipped has a loss of null; it could not be reported for good.
#[test]
fn an_epoch_without_a_loss_has_a_report() {
    let (_dir, run) = run_folder(20);
    let path = run.path().join("metrics.jsonl");
    let lines = fs::read_to_string(&path).unwrap();
    let lines = lines.lines().enumerate().map(|(i, line)| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        match record["kind"] == "epoch" {
            true if record["epoch"] == 2 => record["train_loss"] = Value::Null,
            false if (5..9).contains(&i) => {
                (record["loss"], record["losses"]["age"]) = (Value::Null, Value::Null)
            }
            _ => {}
        }
        format!("{record}\n")
    });
    fs::write(&path, lines.collect::<String>()).unwrap();
    let (page, data) = make_report(&run);
    let report: Value = serde_json::from_slice(&fs::read(data).unwrap()).unwrap();
    assert!(report["epochs"][1]["train_loss"].is_null() && report["series"][5]["loss"]["mean"].is_null());
    let page = fs::read_to_string(page).unwrap();
    let curve = page.split("id=\"fig-loss\"").nth(1).unwrap().split("</figure>").next().unwrap();
    let path = curve.split("<path d=\"").find(|path| path.contains("line solid all")).unwrap();
    assert_eq!(path.split('"').next().unwrap().matches('M').count(), 2, "the curve has a gap: {path}");
    assert!(!page.contains("NaN"));
}

/// Whatever value of whatever record is damaged: a report, or an error that names the file.
#[test]
fn no_damaged_value_of_a_record_is_a_panic() {
    let (_dir, run) = run_folder(1);
    evaluate(&run, "val");
    let metrics = run.path().join("metrics.jsonl");
    let audit = EvaluationRecord::path(run.path(), "val");
    let mut record: Value = serde_json::from_slice(&fs::read(&audit).unwrap()).unwrap();
    // Decoding faces takes the time here, and is not what this is about.
    record["source"]["images"] = "moved".into();
    fs::write(&audit, record.to_string()).unwrap();
    let text = fs::read_to_string(&metrics).unwrap();
    for (i, line) in text.lines().take(2).enumerate() {
        damage(&serde_json::from_str(line).unwrap(), 1, |damaged| {
            let lines = text.lines().enumerate().map(|(j, line)| match j == i {
                true => format!("{damaged}\n"),
                false => format!("{line}\n"),
            });
            fs::write(&metrics, lines.collect::<String>()).unwrap();
            report_or_named(&run, "metrics.jsonl");
        });
    }
    fs::write(&metrics, &text).unwrap();
    damage(&record, 29, |damaged| {
        fs::write(&audit, damaged.to_string()).unwrap();
        report_or_named(&run, "val.json");
    });
    fs::write(&audit, record.to_string()).unwrap();
    let origin = run.path().join("run.json");
    damage(&serde_json::from_slice(&fs::read(&origin).unwrap()).unwrap(), 1, |damaged| {
        fs::write(&origin, damaged.to_string()).unwrap();
        report_or_named(&run, ".json"); // its own, or that of records that fit it no more
    });
}

fn report_or_named(run: &RunDir, file: &str) {
    match RunReport::read(run) {
        Ok(report) => {
            let page = report.html();
            assert!(!page.contains("NaN") && !page.contains("\"inf"), "{page}");
            let card = ModelCard::of_run(&report).markdown();
            assert!(!card.contains("NaN") && !card.contains(": null"), "{card}");
        }
        Err(e) => assert!(e.to_string().contains(file), "{e}"),
    }
}

/// Calls `each` with `record`, one of its values replaced: of the values every `step`-th, by every kind of value.
fn damage(record: &Value, step: usize, mut each: impl FnMut(&Value)) {
    let replacements = serde_json::json!([
        null, true, "x", -1, 0, 1.5, u64::MAX, 1e308, -1e308, [], [[1, 2], [3, 4]], {"classes": u64::MAX, "cells": []}
    ]);
    let mut pointers = Vec::new();
    collect("", record, &mut pointers);
    for (i, pointer) in pointers.iter().step_by(step).enumerate() {
        for (j, replacement) in replacements.as_array().unwrap().iter().enumerate() {
            // Of a large record a third of the kinds a value do.
            if step == 1 || (i + j) % 3 == 0 {
                let mut damaged = record.clone();
                *damaged.pointer_mut(pointer).unwrap() = replacement.clone();
                each(&damaged);
            }
        }
    }
}

/// The pointers of all values in a value.
fn collect(prefix: &str, value: &Value, pointers: &mut Vec<String>) {
    let mut go_on = |key: &str, value: &Value| {
        let pointer = format!("{prefix}/{}", key.replace('~', "~0").replace('/', "~1"));
        pointers.push(pointer.clone());
        collect(&pointer, value, pointers);
    };
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| go_on(key, value)),
        Value::Array(array) => array.iter().enumerate().for_each(|(i, value)| go_on(&i.to_string(), value)),
        _ => {}
    }
}

/// Pages that belong to no run: of one evaluation, and of the sample.
#[test]
fn chromium_has_nothing_to_complain_about_the_other_pages() {
    let Some(chromium) = Chromium::find() else { return };
    let (dir, run) = run_folder(1);
    evaluate(&run, "val");
    let evaluation = dir.path().join("evaluation.html");
    EvaluationPage::read(&EvaluationRecord::path(run.path(), "val")).unwrap().write(&evaluation).unwrap();
    let audit = dir.path().join("audit.html");
    let [splits, images] = ["splits", "images"].map(|folder| sample().join(folder));
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let args = ["audit", "--html", &path(&audit), "--splits", &path(&splits), "--images", &path(&images)];
    assert_exit(&fairface(&args), 0);
    for (page, expected) in [(evaluation, "<h1>Evaluation: val</h1>"), (audit, "<h1>Data audit</h1>")] {
        let Shown { dom, console } = chromium.open(&page);
        assert!(console.is_empty(), "{expected}: the console says {console:#?}");
        assert!(dom.contains(expected) && dom.contains("<svg "), "{expected} is missing");
    }
}

#[test]
fn chromium_shows_every_figure_and_has_nothing_to_complain_about() {
    let Some(chromium) = Chromium::find() else { return };
    let (_dir, run) = run_folder(60);
    evaluate(&run, "val");
    let (page, _) = make_report(&run);
    let Shown { dom, console } = chromium.open(&page);
    assert!(console.is_empty(), "the console says {console:#?}");
    for id in figures("val") {
        let figure = dom.split("<figure ").find(|part| part.starts_with(&format!("id=\"{id}\"")));
        let figure = figure.unwrap_or_else(|| panic!("{id} is missing")).split("</figure>").next().unwrap();
        assert!(figure.contains("<svg ") && figure.contains("aria-label=\""), "{figure}");
        assert!(!figure.contains("nothing recorded yet") && !figure.contains("NaN"), "{figure}");
    }
    assert!(dom.contains("&lt;script&gt;alert('&amp;')&lt;/script&gt;"), "a label is text");

    // The page forbids what is not in it, and the console would have said so.
    let text = fs::read_to_string(&page).unwrap();
    let intruder = "<img src=\"http://127.0.0.1:9/x.png\"><script>1</script></main>";
    let bad = page.with_file_name("bad.html");
    fs::write(&bad, text.replace("</main>", intruder)).unwrap();
    let console = chromium.open(&bad).console;
    assert_eq!(console.len(), 2, "{console:#?}");
    assert!(console.iter().all(|line| line.contains("Content Security Policy")), "{console:#?}");
}

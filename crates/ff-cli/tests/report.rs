//! The report as a user meets it: made by the binary from a run folder, opened in a browser.
//!
//! The browser is headless Chromium; where there is none, its test says so and passes. `FAIRFACE_CHROMIUM` names another.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ff_data::{Encoders, LabelEncoder, PerTask, Task};
use ff_train::machine::Machine;
use ff_train::metrics::TaskMetrics;
use ff_train::records::{EpochRecord, Record, Seconds, StepRecord};
use ff_train::run_dir::RunDir;
use ff_train::{ConfigBuilder, Preset};
use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

/// A label that would break a page which did not escape it.
const HOSTILE: &str = "<script>alert('&')</script>";

/// A run folder without a model: a run of 3 epochs as its records tell it.
fn run_folder(steps_per_epoch: u64) -> (TempDir, RunDir) {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(Some(&dir.path().join("fixture")), "train").unwrap();
    let config =
        ConfigBuilder::new(Preset::Sample, Path::new("")).set("train.epochs", Some(3)).resolve().unwrap();
    run.describe(&config, "random", &Machine::look(), &encoders()).unwrap();
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
    let labels = PerTask {
        age: ["0-2", "20-29", "3-9", "more than 70"].to_vec(),
        gender: ["Female", "Male"].to_vec(),
        race: [HOSTILE, "Black", "White"].to_vec(),
    };
    PerTask::from_fn(|task| LabelEncoder::fit(task, labels[task].iter().copied()).unwrap())
}

fn step_record(epoch: u64, step: u64, total: u64) -> StepRecord {
    let progress = step as f64 / total as f64;
    let wobble = ((step * 7919) % 101) as f64 / 500.0;
    let losses = PerTask { age: 2.2 - progress + wobble, gender: 0.7 - progress / 3.0, race: 1.9 - progress };
    let loss = losses.values().sum();
    StepRecord {
        epoch,
        step,
        loss,
        losses,
        lr: 1e-4 * (1.0 - progress),
        grad_norm: 1.0,
        weights: None,
        images: 32,
        seconds: 0.25,
    }
}

/// Epoch 2 is the best.
fn epoch_record(epoch: u64, step: u64) -> EpochRecord {
    let accuracy = [0.3, 0.5, 0.45][epoch as usize - 1];
    let metrics = |one_off| TaskMetrics {
        accuracy,
        one_off,
        balanced_accuracy: accuracy - 0.1,
        macro_f1: accuracy - 0.12,
        ece: 0.05,
        nll: [1.5, 1.2, 1.4][epoch as usize - 1],
    };
    EpochRecord {
        epoch,
        step,
        train_loss: 4.8 - epoch as f64,
        val: PerTask { age: metrics(Some(0.8)), gender: metrics(None), race: metrics(None) },
        ema: None,
        confusion: encoders().n_classes().map(confusion),
        best: epoch <= 2,
        images_per_s: 120.0,
        seconds: Seconds { loader: 1.0, forward: 10.0, backward: 20.0, optimizer: 2.0, evaluation: 5.0 },
    }
}

fn confusion(n_classes: usize) -> Vec<Vec<u64>> {
    let cell = |row: usize, column: usize| if row == column { 9 } else { (row + 2 * column) as u64 % 4 };
    (0..n_classes).map(|row| (0..n_classes).map(|column| cell(row, column)).collect()).collect()
}

fn fairface(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fairface")).args(args).env_remove("RUST_LOG").output().unwrap()
}

/// The paths of `report.html` and `report.json`.
fn make_report(run: &RunDir) -> (PathBuf, PathBuf) {
    let output = fairface(&["report", "--run", run.path().to_str().unwrap(), "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let written: Value = serde_json::from_slice(&output.stdout).unwrap();
    let path = |key: &str| PathBuf::from(written[key].as_str().unwrap());
    (path("path"), path("data"))
}

/// The ids of the figures that every report of a trained run has.
fn figures() -> Vec<String> {
    let all = ["loss", "learning-rate", "speed", "time"].map(|name| format!("fig-{name}"));
    let per_task = ["loss", "accuracy", "confusion"]
        .into_iter()
        .flat_map(|name| Task::ALL.map(|task| format!("fig-{name}-{task}")));
    all.into_iter().chain(per_task).collect()
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
    assert_eq!((&age["accuracy"], &age["n"]), (&0.5.into(), &54.into()));
    let interval = [0, 1].map(|i| age["accuracy_interval"][i].as_f64().unwrap());
    assert!(interval[0] < 36.0 / 54.0 && 36.0 / 54.0 < interval[1], "{interval:?}");
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
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("expected a run folder with config.toml, found none"), "{stderr}");
}

#[test]
fn chromium_shows_every_figure_and_has_nothing_to_complain_about() {
    let Some(chromium) = Chromium::find() else { return };
    let (_dir, run) = run_folder(60);
    let (page, _) = make_report(&run);
    let Shown { dom, console } = chromium.open(&page);
    assert!(console.is_empty(), "the console says {console:#?}");
    for id in figures() {
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

/// A headless browser.
struct Chromium {
    program: String,
}

/// What the browser made of a page.
struct Shown {
    dom: String,
    console: Vec<String>,
}

impl Chromium {
    fn find() -> Option<Self> {
        let named = std::env::var("FAIRFACE_CHROMIUM").ok();
        let programs =
            named.into_iter().chain(["chromium", "chromium-browser", "google-chrome"].map(str::to_owned));
        let runs = |program: &String| {
            Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
        };
        let found = programs.into_iter().find(runs);
        if found.is_none() {
            eprintln!("skipped: no Chromium; FAIRFACE_CHROMIUM names one");
        }
        found.map(|program| Self { program })
    }

    fn open(&self, page: &Path) -> Shown {
        let profile = tempfile::tempdir().unwrap();
        let output = Command::new(&self.program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            // The browser has no errand of its own in any network.
            .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--dump-dom"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("file://{}", page.display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let stderr = String::from_utf8_lossy(&output.stderr);
        let console = stderr.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect();
        Shown { dom: String::from_utf8(output.stdout).unwrap(), console }
    }
}

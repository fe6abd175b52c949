//! A page of one evaluation, as somebody without a run has it.

use std::path::PathBuf;

use ff_core::{Encoders, LabelEncoder, Schema, Task};
use ff_eval::{Bootstrap, Calibration, EvaluationSource, Predictions, Settings};

use super::*;

/// A label that would break a page which did not escape it.
const HOSTILE: &str = "<script>alert('&')</script>";

/// 120 of the sample's faces: everything right, but for every other gender among those labelled Black.
fn record() -> EvaluationRecord {
    let sample = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/sample");
    let labels = |task: &Task| match task.name.as_str() {
        "age" => ["0-2", "3-9", "20-29"].as_slice(),
        "gender" => &["Female", "Male"],
        _ => &[HOSTILE, "Black", "White"],
    };
    let fit = |task: &Task| LabelEncoder::fit(task.clone(), labels(task).iter().copied()).unwrap();
    let encoders = Encoders::new(Schema::fairface().per_task(fit)).unwrap();
    let rows = fs::read_to_string(sample.join("splits/ff_val.csv")).unwrap();
    let mut files: Vec<String> =
        rows.lines().skip(1).map(|row| row.split(',').next().unwrap().to_owned()).collect();
    let n = files.len();
    let targets =
        encoders.n_classes().map(|classes| (0..n).map(|i| (i % classes) as u32).collect::<Vec<_>>());
    let black = encoders["race"].encode("Black").unwrap();
    let wrong = |task: &TaskName, i: usize| *task == "gender" && targets["race"][i] == black && i % 4 < 2;
    // A face that is shown and cannot be read.
    let gender = TaskName::new("gender").unwrap();
    let missing = (0..n).find(|&i| wrong(&gender, i)).unwrap();
    files[missing] = "gone/\"><x>.jpg".to_owned();
    let probabilities = encoders.each(|task, encoder| {
        let classes = encoder.n_classes();
        let row = |i: usize| {
            let predicted = (targets[task][i] as usize + usize::from(wrong(task, i))) % classes;
            let rest = 0.1 / (classes - 1) as f32;
            (0..classes).map(move |class| if class == predicted { 0.9 } else { rest })
        };
        (0..n).flat_map(row).collect()
    });
    let predictions = Predictions { probabilities, targets, files, ..Predictions::default() };
    let source = EvaluationSource {
        checkpoint: Some("theirs.safetensors".into()),
        csv: "photos/labels.csv".into(),
        images: Some(sample.join("images")),
        subset: Some("service_test".to_owned()),
        tta: ff_eval::TestTimeAugmentation::Flip,
        skipped: 2,
        ..EvaluationSource::default()
    };
    let bootstrap = Bootstrap { resamples: 20, seed: 1 };
    let settings = Settings {
        group_by: ["race", "gender"].map(str::to_owned).to_vec(),
        bootstrap,
        ..Settings::default()
    };
    let mut record = EvaluationRecord::new(&predictions, &encoders, source, &settings).unwrap();
    record.calibration = Some(Calibration::new("fit.csv".into(), &predictions, &predictions, &encoders));
    record
}

#[test]
fn an_evaluation_without_a_run_has_a_whole_page() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("their & model.json");
    record().write(&file).unwrap();
    let path = dir.path().join("page.html");
    EvaluationPage::read(&file).unwrap().write(&path).unwrap();
    let page = fs::read_to_string(path).unwrap();
    for needle in [
        "<!DOCTYPE html>",
        "Content-Security-Policy",
        "<title>Evaluation: their &amp; model</title>",
        "<h1>Evaluation: their &amp; model</h1>",
        "120 images of photos/labels.csv; checkpoint theirs.safetensors; only rows with service_test; probabilities are \
         means over the image and its mirror image; 2 images could not be read and do not count.",
        // 20 of 40 genders right among those labelled Black. Wilson: 35.2 to 64.8, and 91.2 to 100.
        "<li>Gender by race: accuracy is 50.0 % (35.2 % to 64.8 %) for Black, but 100.0 % (91.2 % to 100.0 %) for",
        "<td>Gender</td><td>83.3 %</td>",
        "How far groups lie apart",
        "id=\"fig-their---model-groups-race-gender\"",
        "id=\"fig-their---model-confusion-age\"",
        "id=\"fig-their---model-calibration-race\"",
        "fitted on 120 images of fit.csv.",
        "The most confident mistakes",
        "8 more",
        "gone/&quot;&gt;&lt;x&gt;.jpg",
        "not readable",
        "Suspected label errors",
        "&lt;script&gt;alert('&amp;')&lt;/script&gt;",
    ] {
        assert!(page.contains(needle), "the page lacks {needle}");
    }
    for forbidden in ["<script", "<x>", "NaN", "src=", "href=\"http"] {
        assert!(!page.contains(forbidden), "the page has {forbidden}");
    }
    let faces = page.matches("{background-image:url(data:image/jpeg;base64,").count();
    assert_eq!(faces, 19, "each of 20 mistakes once, but for the one that cannot be read");
}

#[test]
fn what_was_not_found_out_has_no_heading() {
    let mut record = record();
    record.calibration = None;
    record.evaluation.groups.clear();
    record.disparities.clear();
    record.source.images = Some("moved".into());
    let page = EvaluationPage::new("val", record).html();
    for heading in [
        "Worth a look",
        "How far groups lie apart",
        "Accuracy by group",
        "The same for every group",
        "Dashed:",
    ] {
        assert!(!page.contains(heading), "the page has {heading}");
    }
    assert!(page.contains("not readable") && !page.contains("base64,"));
}

#[test]
fn a_file_that_is_no_record_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("val.json");
    fs::write(&file, "{}").unwrap();
    let message = EvaluationPage::read(&file).unwrap_err().to_string();
    assert!(message.contains("val.json: "), "{message}");
}

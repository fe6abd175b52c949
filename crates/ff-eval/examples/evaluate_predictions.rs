//! Somebody else's predictions, judged by a column that is no task.
//!
//! ```sh
//! cargo run --release -p ff-eval --example evaluate_predictions
//! ```

use ff_eval::{
    EvaluationRecord, EvaluationSource, FilePredictions, Requirement, SchemaFile, Settings, per_sample_csv,
    read_predictions,
};

const SCHEMA: &str = r#"
[[tasks]]
name = "glasses"

[labels.glasses]
"with" = "yes"
"without" = "no"
"#;

#[expect(clippy::print_stdout, reason = "an example shows what it finds")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let [schema, predictions, labels] =
        ["schema.toml", "predictions.csv", "labels.csv"].map(|name| dir.path().join(name));
    let (mut predicted, mut labelled) =
        ("file,glasses:yes,glasses:no\n".to_owned(), "file,glasses,camera\n".to_owned());
    for i in 0..200 {
        // Wrong for a tenth of the phone's faces, and for a fifth of the webcam's.
        let (camera, wrong) = if i % 2 == 0 { ("phone", i % 20 == 0) } else { ("webcam", i % 10 == 1) };
        let (truth, p) = if i % 3 == 0 { ("with", 0.8) } else { ("without", 0.3) };
        let p = if wrong { 1.0 - p } else { p };
        predicted += &format!("faces/{i}.jpg,{p:.1},{:.1}\n", 1.0 - p);
        labelled += &format!("{i}.jpg,{truth},{camera}\n");
    }
    fs_err::write(&schema, SCHEMA)?;
    fs_err::write(&predictions, predicted)?;
    fs_err::write(&labels, labelled)?;

    let schema = SchemaFile::read(&schema)?;
    let FilePredictions { predictions: found, encoders, join } =
        read_predictions(&predictions, &labels, &schema)?;
    println!("{} samples, {} of them joined by base name", join.n, join.n_by_base_name);
    let settings = Settings { group_by: vec!["camera".to_owned()], ..Settings::default() };
    let source = EvaluationSource {
        predictions: Some(predictions),
        csv: labels,
        join: Some(join),
        ..EvaluationSource::default()
    };
    let record = EvaluationRecord::new(&found, &encoders, source, &settings)?;
    for group in &record.evaluation.groups {
        let glasses = group.tasks["glasses"].metrics.as_ref().ok_or("a group without samples")?;
        println!("{}: accuracy {:.3} of {} samples", group.group, glasses.accuracy, group.n);
    }
    for requirement in ["glasses.accuracy>=0.8", "glasses.accuracy_gap[camera]<=0.05"] {
        println!("{}", requirement.parse::<Requirement>()?.check(&record)?);
    }
    let per_sample = per_sample_csv(&found, &encoders, &settings.group_by)?;
    println!("{}", per_sample.lines().take(3).collect::<Vec<_>>().join("\n"));
    Ok(())
}

//! What ff-eval reads.

use std::path::Path;

use ff_eval::{Comparison, EvaluationRecord, Requirement, SchemaFile, read_predictions};

/// The record of an evaluation.
pub fn evaluation_record(bytes: &[u8]) {
    in_file("val.json", bytes, |path| {
        let _ = EvaluationRecord::read(path).map_err(has_cause);
    });
}

/// The record of a comparison.
pub fn comparison(bytes: &[u8]) {
    in_file("compared.json", bytes, |path| {
        let _ = Comparison::read(path).map_err(has_cause);
    });
}

/// A schema's file, and the requirements that may stand in it.
pub fn schema_file(bytes: &[u8]) {
    in_file("schema.toml", bytes, |path| {
        let _ = SchemaFile::read(path).map_err(has_cause);
        let _ = Requirement::read_all(path).map_err(has_cause);
    });
}

/// Predictions of anybody, which are their own labels too.
pub fn predictions(bytes: &[u8]) {
    let schema: SchemaFile = SchemaFile::default();
    in_file("theirs", bytes, |path| {
        let _ = read_predictions(path, path, &schema).map_err(has_cause);
        let labels = path.with_file_name("labels.csv");
        fs_err::write(&labels, "file,age,gender,race,x\na.jpg,3-9,Female,White,1\nb.jpg,,Male,Black,2\n")
            .expect("a temporary file");
        if let Ok(found) = read_predictions(path, &labels, &schema) {
            // Whatever was taken can be judged, or the reason is said.
            let _ = found.predictions.evaluate(&found.encoders, &["x".to_owned()]).map_err(has_cause);
        }
    });
}

fn has_cause(error: impl std::fmt::Display) {
    assert!(!error.to_string().trim().is_empty());
}

/// Calls `read` with a file of this content.
fn in_file(name: &str, bytes: &[u8], read: impl FnOnce(&Path)) {
    thread_local!(static DIR: tempfile::TempDir = tempfile::tempdir().expect("a temporary folder"));
    DIR.with(|dir| {
        let path = dir.path().join(name);
        fs_err::write(&path, bytes).expect("a temporary file");
        read(&path);
    });
}

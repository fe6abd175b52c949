//! The fuzzers of this crate's files, on inputs that are drawn here: see `fuzz/README.md`.

#[path = "../../../fuzz/src/eval.rs"]
mod eval;
#[path = "../../../fuzz/src/mutate.rs"]
mod mutate;

#[test]
fn predictions_schemas_and_records_of_any_bytes_are_read_or_refused() {
    mutate::run("predictions", eval::predictions);
    mutate::run("schema_file", eval::schema_file);
    mutate::run("evaluation_record", eval::evaluation_record);
    mutate::run("comparison", eval::comparison);
}

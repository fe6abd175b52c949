//! The fuzzers of this crate's files, on inputs that are drawn here: see `fuzz/README.md`.

#[path = "../../../../fuzz/src/data.rs"]
mod data;
#[path = "../../../../fuzz/src/mutate.rs"]
mod mutate;

#[test]
fn csvs_and_labels_of_any_bytes_are_read_or_refused() {
    mutate::run("split_csv", data::split_csv);
    mutate::run("decisions", data::decisions);
    mutate::run("inputs_csv", data::inputs_csv);
    mutate::run("labels", data::labels);
}

#[test]
fn images_of_any_bytes_are_read_or_refused() {
    mutate::run("image", data::image);
}

#[test]
fn hash_files_and_caches_of_any_bytes_are_read_or_made_anew() {
    mutate::run("hash_file", data::hash_file);
    mutate::run("disk_cache", data::disk_cache);
}

#[test]
fn parquet_files_of_any_bytes_are_read_or_refused() {
    mutate::run("face_parquet", data::face_parquet);
}

//! FairFace from Parquet files: what `fixtures/fairface/make.py` wrote with other people's libraries.

use std::path::{Path, PathBuf};

use ff_core::fault::during;
use ff_core::files::sha256;
use ff_data::fairface::{FaceFile, FaceFolder, Written};
use ff_data::{Error, OldFiles};
use fs_err as fs;

const TRAIN: [&str; 2] = ["train-00000-of-00002", "train-00001-of-00002"];
const VALIDATION: &str = "validation-00000-of-00001";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/fairface/{name}.parquet"))
}

fn open(names: &[&str]) -> Vec<FaceFile> {
    names.iter().map(|name| FaceFile::open(fixture(name)).unwrap()).collect()
}

fn expected() -> String {
    fs::read_to_string(fixture("expected").with_extension("csv")).unwrap()
}

/// Columns and hashes as in `expected.csv`.
fn described(files: &[FaceFile]) -> String {
    let mut text = "file,age,gender,race,service_test,sha256\n".to_owned();
    for file in files {
        let rows = file.labels(u64::MAX).unwrap();
        assert_eq!(rows.len() as u64, file.n_rows());
        let mut hashes = Vec::new();
        file.images(u64::MAX, &mut |row, image| {
            assert_eq!(row, hashes.len() as u64);
            hashes.push(sha256(image));
            Ok(())
        })
        .unwrap();
        for (row, hash) in rows.iter().zip(&hashes) {
            let service_test = if row.service_test { "True" } else { "False" };
            let name = row.name.as_ref().unwrap();
            text += &format!("train/{name},{},{service_test},{hash}\n", row.labels.join(","));
        }
        assert_eq!(rows.len(), hashes.len());
    }
    text
}

fn write(dir: &Path, limit: Option<u64>) -> ff_data::Result<Written> {
    FaceFolder::open(dir, "tests", OldFiles::Keep)?.write(
        &open(&TRAIN),
        &open(&[VALIDATION]),
        limit,
        &mut |_, _| {},
    )
}

#[track_caller]
fn assert_refused(error: &Error, expected: &[&str]) {
    let message = error.to_string();
    for part in expected {
        assert!(message.contains(part), "{part:?} is missing in {message}");
    }
}

#[test]
fn every_way_of_writing_parquet_gives_the_same_faces() {
    assert_eq!(described(&open(&TRAIN)), expected());
    for name in ["plain", "version-2", "reordered"] {
        assert_eq!(described(&open(&[name])), expected(), "{name}");
    }
    let error = FaceFile::open(fixture("zstd")).unwrap().labels(1).unwrap_err();
    assert_refused(
        &error,
        &[
            "zstd.parquet: row group 0, column age: expected pages that are uncompressed or snappy, found zstd",
        ],
    );
}

#[test]
fn images_and_the_official_csvs_are_written_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new/fairface");
    let written = write(&out, None).unwrap();
    let csv = fs::read_to_string(out.join("fairface_label_train.csv")).unwrap();
    let (expected, mut bytes) = (expected(), 0);
    for (line, row) in expected.lines().zip(csv.lines()) {
        let (labels, hash) = line.rsplit_once(',').unwrap();
        assert_eq!(row, labels);
        if labels.starts_with("train/") {
            let image = fs::read(out.join(row.split(',').next().unwrap())).unwrap();
            assert_eq!(sha256(&image), hash);
            bytes += image.len() as u64;
        }
    }
    assert_eq!((csv.lines().count(), expected.lines().count()), (13, 13));
    assert_eq!((written.train.images, written.train.bytes, written.train.kept), (12, bytes, 0));
    assert!(written.train.names.official && written.train.names.kept_by_source);

    // The official crop lies where the official file says.
    let sample = crate::support::sample().join("images/val/28.jpg");
    assert_eq!(fs::read(out.join("val/28.jpg")).unwrap(), fs::read(sample).unwrap());
    assert_eq!((written.val.names.known_images, written.val.names.misnamed_images), (1, 0));
    assert!(written.val.names.official && !written.val.names.kept_by_source);
    assert_eq!(written.val.names.official_labels, None, "30 rows are too few to tell");

    let again = write(&out, None).unwrap();
    assert_eq!((again.train.kept, again.val.kept), (12, 30));
    assert_eq!((again.train.bytes, again.val.bytes), (written.train.bytes, written.val.bytes));
    assert_eq!(fs::read_to_string(out.join("fairface_label_train.csv")).unwrap(), csv);
}

#[test]
fn a_limit_takes_the_first_rows_across_files_and_can_be_raised() {
    let dir = tempfile::tempdir().unwrap();
    for (limit, train, val) in [(3, 3, 3), (9, 9, 9), (100, 12, 30), (9, 9, 9)] {
        let written = write(dir.path(), Some(limit)).unwrap();
        assert_eq!((written.train.images, written.val.images), (train, val));
        let csv = fs::read_to_string(dir.path().join("fairface_label_train.csv")).unwrap();
        assert_eq!(csv.lines().count() as u64, train + 1);
        for row in csv.lines().skip(1) {
            assert!(dir.path().join(row.split(',').next().unwrap()).is_file(), "{row}");
        }
    }
    // 27 rows do not reach the face that is known.
    let written = write(dir.path(), Some(27)).unwrap();
    assert!(!written.val.names.official);
}

/// A full disk, a broken one: at every image and every other file.
#[test]
fn what_is_written_before_a_fault_is_kept_and_no_csv_is_early() {
    for nth in 1.. {
        let dir = tempfile::tempdir().unwrap();
        let result = during(&format!("enospc@write#{nth}"), || write(dir.path(), Some(4)));
        let Err(error) = result else {
            assert!(nth > 8 + 2, "{nth} faults");
            break;
        };
        assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
        let images = |split: &str| fs::read_dir(dir.path().join(split)).map_or(0, Iterator::count);
        let before = images("train") + images("val");
        if dir.path().join("fairface_label_train.csv").exists() {
            assert_eq!(before, 8);
        }
        let written = write(dir.path(), Some(4)).unwrap();
        assert_eq!((written.train.kept + written.val.kept) as usize, before, "fault {nth}");
    }
}

#[test]
fn an_image_that_is_cut_short_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), None).unwrap();
    let path = dir.path().join("train/5.jpg");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..100]).unwrap();
    assert_eq!(write(dir.path(), None).unwrap().train.kept, 11);
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn what_somebody_else_wrote_is_replaced_by_force_only() {
    let dir = tempfile::tempdir().unwrap();
    let open = |source: &str, old_files| FaceFolder::open(dir.path(), source, old_files).map(drop);
    fs::write(dir.path().join("notes.txt"), "the user's").unwrap();
    let error = open("tests", OldFiles::Keep).unwrap_err();
    assert_refused(
        &error,
        &["expected an empty folder, or one that FairFace was written to, found notes.txt"],
    );
    assert!(matches!(error, Error::ForeignFolder { .. }));
    open("tests", OldFiles::Replace).unwrap();
    open("tests", OldFiles::Keep).expect("it is FairFace's now");
    write(dir.path(), None).unwrap();

    let error = open("other", OldFiles::Keep).unwrap_err();
    assert_refused(&error, &["expected images of other, found those of tests"]);

    let csv = dir.path().join("fairface_label_val.csv");
    fs::write(&csv, "file,age,gender,race\n").unwrap();
    assert_refused(&open("tests", OldFiles::Keep).unwrap_err(), &["fairface_label_val.csv", "changed since"]);
    assert_eq!(fs::read_to_string(&csv).unwrap(), "file,age,gender,race\n");
    open("tests", OldFiles::Replace).unwrap();
    // Images of another source are not kept, whatever their lengths.
    let folder = FaceFolder::open(dir.path(), "other", OldFiles::Replace).unwrap();
    assert_eq!(folder.kept_bytes().unwrap(), 0);
    let files = [FaceFile::open(fixture("plain")).unwrap()];
    let written = folder.write(&files, &[], None, &mut |_, _| {}).unwrap();
    assert_eq!((written.train.kept, written.val.images), (0, 0));
    assert_eq!(fs::read_to_string(dir.path().join("notes.txt")).unwrap(), "the user's");
}

/// Bytes in place of others, in a file whose lengths stay what they are.
fn with(name: &str, old: &str, new: &str) -> (tempfile::TempDir, PathBuf) {
    assert_eq!(old.len(), new.len());
    let mut bytes = fs::read(fixture(name)).unwrap();
    let places: Vec<_> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(old.as_bytes())).collect();
    assert!(!places.is_empty(), "{old}");
    for at in places {
        bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("changed.parquet");
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

#[test]
fn what_is_no_fairface_is_refused_by_name() {
    for (old, new, expected) in [
        ("Middle Eastern", "Middle Western", "class names of race: expected East Asian, Indian"),
        ("Middle Eastern", "Middle Western", "found \"Middle Western\""),
        ("\"30-39\"", "\"20-29\"", "class names of age: expected each once, found 20-29 twice"),
        ("huggingface", "huggingfate", "expected class names under \"huggingface\""),
        ("\"gender\": ", "\"gander\": ", "expected class names of gender, found none"),
        ("{\"info\"", "{\"inf0\"", "missing field `info`"),
    ] {
        let (_dir, path) = with("plain", old, new);
        assert_refused(&FaceFile::open(&path).unwrap_err(), &["changed.parquet", expected]);
    }
    let (_dir, path) = with("plain", "service_test", "service_text");
    let error = FaceFile::open(&path).unwrap().labels(9).unwrap_err();
    assert_refused(&error, &["expected a column service_test, found image.bytes, image.path, age"]);
    let (_dir, path) = with("plain", "\"Male\", \"Female\"", "\"Female\"        ");
    let error = FaceFile::open(&path).unwrap().labels(9).unwrap_err();
    assert_refused(&error, &["row 2: gender: expected an id below 1, found 1"]);
    for missing in [fixture("nowhere"), fixture("expected").with_extension("csv")] {
        assert_refused(&FaceFile::open(&missing).unwrap_err(), &[missing.to_str().unwrap()]);
    }
    // The same bytes stand in the pages' statistics.
    let mut bytes = fs::read(fixture("plain")).unwrap();
    let jpegs: Vec<_> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(&[0xff, 0xd8, 0xff])).collect();
    jpegs.into_iter().for_each(|at| bytes[at..at + 3].copy_from_slice(b"GIF"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gif.parquet");
    fs::write(&path, bytes).unwrap();
    let error = FaceFile::open(&path).unwrap().images(9, &mut |_, _| Ok(())).unwrap_err();
    assert_refused(&error, &["gif.parquet: row 0: image: expected a JPEG, found ", "begin [47, 49, 46]"]);
}

#[test]
fn every_truncation_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.parquet");
    for name in ["plain", "version-2"] {
        let whole = fs::read(fixture(name)).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            assert_refused(&FaceFile::open(&path).unwrap_err(), &["cut.parquet: expected"]);
        }
    }
}

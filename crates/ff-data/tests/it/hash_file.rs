//! The hash file beside everything that is none, other processes and a full disk.

use std::path::{Path, PathBuf};

use ff_core::fault::during;
use ff_data::ImageRules;
use ff_data::duplicates::{Fingerprint, HashFile, scan};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::support::{sample, sample_splits};

/// A folder with the first faces of the sample, `0.jpg`, `1.jpg`, ...
fn faces(n: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (i, row) in sample_splits().train.rows()[..n].iter().enumerate() {
        fs_err::copy(sample().join("images").join(&row.file), dir.path().join(format!("{i}.jpg"))).unwrap();
    }
    dir
}

fn scanned(dir: &Path, files: &[&str], hashes: &Path) -> Vec<Fingerprint> {
    let found =
        scan(dir, files, &ImageRules::default(), 2, Some(HashFile::open(hashes).unwrap()), |_| {}).unwrap();
    found.into_iter().map(Result::unwrap).collect()
}

fn len(path: &Path) -> u64 {
    fs_err::metadata(path).unwrap().len()
}

/// A split CSV that was given for the hash file was emptied.
#[test]
fn a_file_that_is_no_hash_file_is_refused_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ff_train.csv");
    for content in [&b"file,age,gender,race\n"[..], b"ffhash0", b"ffhash03", b"FFHASH01", &[0; 5000]] {
        fs_err::write(&path, content).unwrap();
        let message = HashFile::open(&path).unwrap_err().to_string();
        assert!(message.contains("ff_train.csv: expected a hash file of fairface, found"), "{message}");
        assert_eq!(fs_err::read(&path).unwrap(), content);
    }
    assert!(HashFile::open(dir.path()).unwrap_err().to_string().ends_with("found a folder"));
}

/// A pipe was waited for, a device written to.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused_also_behind_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (pipe, link) = (dir.path().join("pipe"), dir.path().join("link"));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::os::unix::fs::symlink("pipe", &link).unwrap();
    for path in [&pipe, &link, &PathBuf::from("/dev/null"), &PathBuf::from("/dev/zero")] {
        let message = HashFile::open(path).unwrap_err().to_string();
        assert!(message.ends_with("found a pipe, socket or device"), "{message}");
    }
}

#[test]
fn hashes_of_an_empty_file_and_of_an_older_version_are_made_anew() {
    let dir = faces(2);
    let (files, hashes) = (["0.jpg", "1.jpg"], dir.path().join("hashes.bin"));
    let expected = scanned(dir.path(), &files, &hashes);
    let whole = fs_err::read(&hashes).unwrap();
    for damaged in [&whole[..0], &whole[..8], &[b"ffhash01", &whole[8..]].concat()] {
        fs_err::write(&hashes, damaged).unwrap();
        assert_eq!(HashFile::open(&hashes).unwrap().len(), 0);
        assert!(scanned(dir.path(), &files, &hashes) == expected);
        assert_eq!(len(&hashes), whole.len() as u64);
    }
}

/// A file in two rows was hashed anew, and the hash file grew, at every audit.
#[test]
fn a_file_that_several_rows_name_is_hashed_once_and_remembered() {
    let dir = faces(2);
    let (files, hashes) = (["0.jpg", "1.jpg", "0.jpg", "0.jpg"], dir.path().join("hashes.bin"));
    let first = scanned(dir.path(), &files, &hashes);
    assert!(first[0] == first[2] && first[0] == first[3] && first[0] != first[1]);
    let (before, mut started_at) = (len(&hashes), None);
    let again =
        scan(dir.path(), &files, &ImageRules::default(), 2, Some(HashFile::open(&hashes).unwrap()), |done| {
            started_at.get_or_insert(done);
        });
    assert!(again.unwrap().into_iter().map(Result::unwrap).eq(first));
    assert_eq!((started_at, len(&hashes)), (Some(4), before));
    assert_eq!(HashFile::open(&hashes).unwrap().len(), 2);
}

#[test]
fn a_bad_file_that_several_rows_name_is_bad_in_all_of_them() {
    let dir = faces(1);
    fs_err::write(dir.path().join("bad.jpg"), "no image").unwrap();
    let found = scan(
        dir.path(),
        &["bad.jpg", "0.jpg", "gone.jpg", "bad.jpg"],
        &ImageRules::default(),
        2,
        None,
        |_| {},
    )
    .unwrap();
    let readable: Vec<bool> = found.iter().map(Result::is_ok).collect();
    assert_eq!(readable, [false, true, false, false]);
}

/// A full disk ended an audit that needed none.
#[test]
fn a_full_or_broken_disk_costs_the_memory_and_not_the_scan() {
    let dir = faces(4);
    let (files, hashes) = (["0.jpg", "1.jpg", "2.jpg", "3.jpg"], dir.path().join("hashes.bin"));
    for fault in ["enospc@write:hashes.bin#2", "eio@write:hashes.bin#2"] {
        let found = during(fault, || scanned(dir.path(), &files, &hashes));
        assert_eq!(found.len(), 4);
        assert_eq!(HashFile::open(&hashes).unwrap().len(), 1, "{fault}: what was written before counts");
        assert!(scanned(dir.path(), &files, &hashes) == found);
        assert_eq!(HashFile::open(&hashes).unwrap().len(), 4);
        fs_err::remove_file(&hashes).unwrap();
    }
}

/// Two audits at once, as far as the file can tell: each has it open for itself.
#[test]
fn several_scans_share_a_hash_file() {
    let dir = faces(12);
    let names: Vec<String> = (0..12).map(|i| format!("{i}.jpg")).collect();
    let hashes = dir.path().join("hashes.bin");
    let (files, hashes): (Vec<&str>, &Path) = (names.iter().map(String::as_str).collect(), &hashes);
    std::thread::scope(|scope| {
        for mine in [&files[..8], &files[4..], &files[2..10]] {
            scope.spawn(|| scanned(dir.path(), mine, hashes));
        }
    });
    let record = 16 + 32 + 32 + 1024;
    let whole = len(hashes);
    assert_eq!(HashFile::open(hashes).unwrap().len(), 12);
    assert_eq!(len(hashes), whole, "no record was torn");
    assert!(whole >= 12 * record);
}

/// An image that is listed and then gone is a finding of the scan, not its end.
#[test]
fn an_image_that_vanishes_after_it_was_listed_is_bad_and_stops_nothing() {
    let dir = faces(3);
    // The first report comes between listing and reading.
    let vanish = |done: usize| {
        if done == 0 {
            fs_err::remove_file(dir.path().join("1.jpg")).unwrap();
        }
    };
    let found =
        scan(dir.path(), &["0.jpg", "1.jpg", "2.jpg"], &ImageRules::default(), 1, None, vanish).unwrap();
    assert!(found[0].is_ok() && found[2].is_ok());
    assert!(found[1].as_ref().unwrap_err().to_string().contains("1.jpg"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_panic_and_only_hash_files_are_changed(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
        magic: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hashes.bin");
        let content = if magic { [b"ffhash02", &bytes[..]].concat() } else { bytes };
        fs_err::write(&path, &content).unwrap();
        match HashFile::open(&path) {
            Ok(hashes) => prop_assert!(hashes.is_empty(), "a record needs its checksum"),
            Err(_) => prop_assert_eq!(fs_err::read(&path).unwrap(), content),
        }
    }
}

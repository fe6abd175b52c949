//! `split` and `audit` as a user meets them.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/sample")
}

fn fairface(dir: &TempDir, args: &[&str]) -> Output {
    command(dir, args).output().unwrap()
}

fn command(dir: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fairface"));
    command
        .args(args)
        .current_dir(dir.path())
        .env("XDG_CACHE_HOME", dir.path().join("cache"))
        .env_remove("RUST_LOG");
    command
}

#[track_caller]
fn json(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Twenty of the sample's faces under `images`, `copy.jpg` being the first again, and their labels in two CSVs.
fn faces() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("images")).unwrap();
    let text = fs::read_to_string(sample().join("splits/ff_train.csv")).unwrap();
    let mut rows: Vec<String> = text.lines().skip(1).take(20).map(str::to_owned).collect();
    for (i, row) in rows.iter_mut().enumerate() {
        let (file, labels) = row.split_once(',').unwrap();
        fs::copy(sample().join("images").join(file), dir.path().join(format!("images/{i}.jpg"))).unwrap();
        *row = format!("{i}.jpg,{labels}");
    }
    fs::copy(dir.path().join("images/0.jpg"), dir.path().join("images/copy.jpg")).unwrap();
    rows.push("copy.jpg,3-9,Female,Black,False,train".to_owned());
    for (name, rows) in [("one.csv", &rows[..12]), ("two.csv", &rows[12..])] {
        let text = format!("file,age,gender,race,service_test,split\n{}\n", rows.join("\n"));
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

const SPLIT: [&str; 6] = ["split", "--labels", "one.csv", "two.csv", "--out", "splits"];

#[test]
fn split_then_audit() {
    let dir = faces();
    let stratify = ["--stratify", "gender", "--json"];
    let outcome = json(&fairface(&dir, &[&SPLIT[..], &stratify].concat()));
    let counts = ["train", "val", "test", "duplicates_removed"].map(|key| outcome[key].as_u64().unwrap());
    assert_eq!((counts, outcome["rows"].as_u64()), ([16, 3, 2, 0], Some(21)));
    assert!(outcome["largest_deviation"].as_f64().unwrap() < 1.0);
    let first = fs::read(dir.path().join("splits/ff_train.csv")).unwrap();

    // A seed under which the two copies are separated shows what `audit` and `--images` are for.
    let seed = (0..100).map(|seed| seed.to_string()).find(|seed| {
        json(&fairface(&dir, &[&SPLIT[..], &stratify, &["--seed", seed]].concat()));
        let audit = json(&fairface(&dir, &["audit", "--splits", "splits", "--images", "images", "--json"]));
        assert_eq!((audit["images"].as_u64(), audit["exact_duplicates"].as_u64()), (Some(21), Some(1)));
        !audit["cross_split"].as_array().unwrap().is_empty()
    });
    let seed = seed.expect("one of a hundred seeds separates them");
    assert_ne!(fs::read(dir.path().join("splits/ff_train.csv")).unwrap(), first);

    let images = ["--images", "images", "--seed", &seed];
    let outcome = json(&fairface(&dir, &[&SPLIT[..], &stratify, &images].concat()));
    let found = ["exact_duplicates", "groups", "label_conflicts"].map(|key| outcome[key].as_u64().unwrap());
    assert_eq!(found, [1, 1, 1]);
    let audit = json(&fairface(&dir, &["audit", "--splits", "splits", "--images", "images", "--json"]));
    assert_eq!(audit["cross_split"].as_array().unwrap().len(), 0);
    assert_eq!(audit["label_conflicts"].as_array().unwrap().len(), 1);

    let outcome = json(&fairface(&dir, &[&SPLIT[..], &stratify, &images, &["--drop-duplicates"]].concat()));
    let counts = ["train", "val", "test", "duplicates_removed"].map(|key| outcome[key].as_u64().unwrap());
    assert_eq!(counts, [15, 3, 2, 1]);
    let names = ["ff_train.csv", "ff_val.csv", "ff_test.csv"];
    let texts = names.map(|name| fs::read_to_string(dir.path().join("splits").join(name)).unwrap());
    assert!(texts.concat().contains("\n0.jpg") && !texts.concat().contains("copy.jpg"));
}

#[test]
fn audit_shows_what_is_wrong_and_remembers_hashes() {
    let dir = faces();
    fs::write(dir.path().join("images/3.jpg"), b"no image").unwrap();
    json(&fairface(&dir, &[&SPLIT[..], &["--images", "images", "--json"]].concat()));
    let args = [
        "audit",
        "--splits",
        "splits",
        "--images",
        "images",
        "--hashes",
        "hashes.bin",
        "--html",
        "audit.html",
    ];
    let output = fairface(&dir, &args);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("3.jpg") && text.contains("same bytes; not the same"), "{text}");
    assert!(fs::read_to_string(dir.path().join("audit.html")).unwrap().starts_with("<!DOCTYPE html>"));
    let len = || fs::metadata(dir.path().join("hashes.bin")).unwrap().len();
    let before = len();
    let again = json(&fairface(&dir, &[&args[..], &["--json"]].concat()));
    assert_eq!(again["unreadable"][0]["file"], "3.jpg");
    assert_eq!(len(), before, "nothing was hashed again");
}

#[test]
fn what_cannot_be_done_is_said_with_its_exit_code() {
    let dir = faces();
    for (args, code, message) in [
        (&["split", "--labels", "one.csv"][..], 2, "--out"),
        (&[&SPLIT[..], &["--ratios", "0.5,0.6,0.1"]].concat(), 2, "sum to 1"),
        (&[&SPLIT[..], &["--drop-duplicates"]].concat(), 2, "--images"),
        (&[&SPLIT[..], &["--stratify", "height"]].concat(), 2, "columns among age, gender, race"),
        (&["split", "--labels", "one.csv", "one.csv", "--out", "x"], 1, "each file once"),
        (&[&SPLIT[..], &["--images", "nowhere"]].concat(), 1, "images folder not found"),
        (&["audit", "--splits", "nowhere"], 1, "split file not found"),
    ] {
        let output = fairface(&dir, args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(message), "{args:?}: {stderr}");
    }
}

#[track_caller]
fn refused(output: &Output, message: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(message), "{stderr}");
    assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
}

const AUDIT: [&str; 5] = ["audit", "--splits", "splits", "--images", "images"];

/// `audit --hashes labels.csv` emptied the labels, `split` replaced whatever had the names of its files.
#[test]
fn files_that_audit_and_split_did_not_write_are_left_alone() {
    let dir = faces();
    let path = |name: &str| dir.path().join(name);
    let labels = fs::read(path("one.csv")).unwrap();
    json(&fairface(&dir, &[&SPLIT[..], &["--json"]].concat()));
    refused(
        &fairface(&dir, &[&AUDIT[..], &["--hashes", "one.csv"]].concat()),
        "one.csv: expected a hash file",
    );
    let split = [&SPLIT[..], &["--images", "images", "--hashes", "one.csv"]].concat();
    refused(&fairface(&dir, &split), "one.csv: expected a hash file");
    assert_eq!(fs::read(path("one.csv")).unwrap(), labels);

    fs::copy(path("one.csv"), path("splits/ff_val.csv")).unwrap();
    // Told before the images are looked for, which are not there.
    let split = [&SPLIT[..], &["--images", "nowhere"]].concat();
    refused(&fairface(&dir, &split), "ff_val.csv: expected no file, or one that an earlier split wrote");
    assert_eq!(fs::read(path("splits/ff_val.csv")).unwrap(), labels);
    json(&fairface(&dir, &[&SPLIT[..], &["--force", "--json"]].concat()));
    assert_ne!(fs::read(path("splits/ff_val.csv")).unwrap(), labels);
}

/// A kill between one file and the next left training rows of one split beside test rows of another.
#[cfg(unix)]
#[test]
fn a_split_killed_between_its_files_is_told_and_made_whole_by_the_next() {
    let dir = faces();
    json(&fairface(&dir, &[&SPLIT[..], &["--json"]].concat()));
    let other = [&SPLIT[..], &["--seed", "7", "--json"]].concat();
    // The second rename is that of the whole file to its own name.
    let killed = command(&dir, &other).env("FAIRFACE_FAULT", "kill@rename:ff_val.csv#2").output().unwrap();
    assert_eq!(killed.status.code(), None, "{}", String::from_utf8_lossy(&killed.stderr));
    refused(&fairface(&dir, &AUDIT), "a split was stopped while it put them in place");
    json(&fairface(&dir, &other));
    json(&fairface(&dir, &[&AUDIT[..], &["--json"]].concat()));
}

/// A full disk ended an audit that needed none; a remark on it came with every image.
#[test]
fn an_audit_on_a_full_disk_goes_on_without_remembering_hashes() {
    let dir = faces();
    json(&fairface(&dir, &[&SPLIT[..], &["--json"]].concat()));
    let args = [&AUDIT[..], &["--hashes", "hashes.bin", "--json"]].concat();
    let full = command(&dir, &args).env("FAIRFACE_FAULT", "enospc@write:hashes.bin#3+").output().unwrap();
    assert_eq!(json(&full)["images"], 21);
    let stderr = String::from_utf8_lossy(&full.stderr).into_owned();
    assert_eq!(stderr.matches("hashes are not remembered").count(), 1, "{stderr}");
    json(&fairface(&dir, &args));
}

/// A label of the test split alone was found after all the training; a CSV could name any file of the machine.
#[test]
fn labels_of_no_training_row_and_files_outside_the_images_folder_are_refused() {
    let dir = faces();
    json(&fairface(&dir, &[&SPLIT[..], &["--json"]].concat()));
    let test = dir.path().join("splits/ff_test.csv");
    fs::write(&test, "file,age,gender,race\n../images/1.jpg,3-9,Martian,Black\n").unwrap();
    let outside = "ff_test.csv:2: expected a file inside the images folder, found \"../images/1.jpg\"";
    refused(&fairface(&dir, &AUDIT), outside);
    json(&fairface(&dir, &[&AUDIT[..], &["--outside-root", "--json"]].concat()));
    let train = ["train", "--splits", "splits", "--images", "images", "--run-dir", "run"];
    refused(&fairface(&dir, &train), outside);
    let output = fairface(&dir, &[&train[..], &["--outside-root"]].concat());
    refused(&output, "ff_test.csv:2: gender label \"Martian\" is not in the training split");
    assert!(!dir.path().join("run").exists());
}

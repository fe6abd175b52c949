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
    let mut command = Command::new(env!("CARGO_BIN_EXE_fairface"));
    command
        .args(args)
        .current_dir(dir.path())
        .env("XDG_CACHE_HOME", dir.path().join("cache"))
        .env_remove("RUST_LOG");
    command.output().unwrap()
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
        (&[&SPLIT[..], &["--stratify", "height"]].concat(), 2, "age, gender or race"),
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

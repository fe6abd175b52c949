//! Arguments that are none: every numeric flag of every command with numbers that nobody means. Nothing panics, aborts
//! or hangs, and a number out of range is told its range.

use std::ffi::OsStr;
use std::process::Output;

use crate::workplace::{Workplace, assert_exit, stderr};
use fs_err as fs;

/// A numeric flag, and its largest value.
type Flag = (&'static str, &'static str);

/// A command that fails soon when its flags are right, and its numeric flags.
const FLAGS: [(&[&str], &[Flag]); 8] = [
    (
        &["train", "--splits", "nowhere"],
        &[
            ("--batch-size", "65536"),
            ("--workers", "1024"),
            ("--threads", "1024"),
            ("--epochs", "1000000"),
            ("--max-steps", "1000000000000"),
            ("--seed", "9223372036854775807"),
        ],
    ),
    (
        &["evaluate", "--run", "nowhere"],
        &[
            ("--batch-size", "65536"),
            ("--workers", "1024"),
            ("--threads", "1024"),
            ("--bootstrap", "100000"),
            ("--seed", "9223372036854775807"),
        ],
    ),
    (
        &["predict", "--weights", "nowhere", "nothing.jpg"],
        &[("--batch-size", "65536"), ("--workers", "1024"), ("--threads", "1024"), ("--padding", "4")],
    ),
    (
        &["embed", "--weights", "nowhere", "nothing.jpg", "--out", "out"],
        &[("--batch-size", "65536"), ("--workers", "1024"), ("--threads", "1024"), ("--padding", "4")],
    ),
    (
        &["sanity", "--splits", "nowhere"],
        &[
            ("--batch-size", "65536"),
            ("--workers", "1024"),
            ("--threads", "1024"),
            ("--seed", "9223372036854775807"),
        ],
    ),
    (
        &["bench", "train", "--splits", "nowhere"],
        &[("--batch-size", "65536"), ("--workers", "1024"), ("--threads", "1024"), ("--steps", "100000")],
    ),
    (
        &["split", "--labels", "nowhere", "--out", "made"],
        &[("--workers", "1024"), ("--seed", "9223372036854775807")],
    ),
    (&["audit", "--splits", "nowhere"], &[("--workers", "1024")]),
];

/// In no range.
const NO_NUMBERS: [&str; 10] = [
    "-1",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "NaN",
    "inf",
    "-inf",
    "",
    "x",
];

#[test]
fn numbers_out_of_range_are_told_the_range_and_those_in_it_are_taken() {
    let place = Workplace::new();
    for (command, flags) in FLAGS {
        for &(flag, largest) in flags {
            for number in NO_NUMBERS {
                let output = place.run(&[command, &[&format!("{flag}={number}")]].concat());
                assert_exit(&output, 2);
                let said = stderr(&output);
                let range = format!(" to {largest}");
                assert!(said.contains(flag) && said.contains(&range), "{command:?} {flag}={number}: {said}");
            }
        }
        let largest = flags.iter().map(|(flag, largest)| format!("{flag}={largest}")).collect::<Vec<_>>();
        let args = [command.to_vec(), largest.iter().map(String::as_str).collect()].concat();
        let output = place.run(&args);
        assert_exit(&output, 1);
        assert!(stderr(&output).contains("no"), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn other_arguments_that_cannot_be_meant_are_usage_errors() {
    let place = Workplace::new();
    for args in [
        &["split", "--labels", "a.csv", "--out", "made", "--ratios", "1e308,NaN,inf"][..],
        &["split", "--labels", "a.csv", "--out", "made", "--ratios", "-1,1,1"],
        &["split", "--labels", "a.csv", "--out", "made", "--ratios", ""],
        &["predict", "--weights", "nowhere", "a.jpg", "--crop", "NaN,0,1,1"],
        &["predict", "--weights", "nowhere", "a.jpg", "--crop", "0,0,inf,1"],
        &["predict", "--weights", "nowhere", ""],
        &["summary", "--height", "31"],
        &["summary", "--width", "9223372036854775808"],
        &["summary", "--depth", "0"],
        &["train", "--lr=-1"],
        &["train", "--lr", "1e308"],
        &["train", "--lr", "NaN"],
        &["train", "--lr", "x"],
        &["train", "--run-dir", ""],
        &["train", "--init", ""],
        &["train", "--device", "cuda:18446744073709551616"],
        &["train", "--resume", "--run-dir", "x", "--checkpoint", ""],
        &["export", "--run", "", "--format", "onnx", "--out", "out"],
        &["export", "--run", "x", "--format", "onnx", "--out", ""],
        &["embed", "--run", "x", "a.jpg", "--out", ""],
        &["audit", "--html", ""],
        &["evaluate", "--run", "x", "--subset", ""],
        &["weights", "--source", ""],
        &["man", "--out", ""],
    ] {
        let output = place.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
    }
    let most = ["summary", "--batch-size", "65536", "--height", "16384", "--width", "16384", "--json"];
    assert_exit(&place.run(&most), 0);
}

/// Aborted, when memory could not be had.
#[test]
fn a_batch_that_no_memory_holds_is_refused() {
    let place = Workplace::new();
    let images = crate::workplace::sample().join("images").to_string_lossy().into_owned();
    for stage in ["train", "infer", "ranks"] {
        let args = ["bench", stage, "--splits", "splits", "--images", &images, "--batch-size", "65536"];
        let output = place.run(&args);
        assert_exit(&output, 2);
        assert!(
            stderr(&output).contains("data.batch_size: a batch of 65536 needs at least"),
            "{}",
            stderr(&output)
        );
    }
}

#[cfg(unix)]
#[test]
fn names_that_are_no_unicode_are_used_or_told() {
    use std::os::unix::ffi::OsStrExt;
    let place = Workplace::new();
    let odd = OsStr::from_bytes(b"f\xff");
    let run = |args: &[&str]| -> Output { place.command(args).arg(odd).output().unwrap() };
    // As a folder to write to: it is used.
    let output = run(&["split", "--json", "--labels", "splits/ff_train.csv", "--out"]);
    assert_exit(&output, 0);
    assert!(place.path("").join(odd).join("ff_train.csv").is_file());
    // As a run that is not there, and as a folder of images.
    assert_exit(&run(&["report", "--run"]), 1);
    fs::write(place.path("").join(odd).join("a.jpg"), "no JPEG").unwrap();
    let output = run(&["predict", "--weights", "nowhere"]);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{output:?}");
}

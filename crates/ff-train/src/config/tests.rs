//! Configurations as users get them wrong, and as other versions wrote them.

use std::path::{Path, PathBuf};

use ff_core::Order;

use super::*;
use crate::loss::OrderedLoss;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs").join(name)
}

/// The error of a file with these bytes as `--config`, without the folder it is in.
fn error(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.toml");
    fs_err::write(&path, bytes).unwrap();
    let builder = ConfigBuilder::new(Preset::Sample, Path::new("")).file(&path);
    let error = builder.and_then(ConfigBuilder::resolve).unwrap_err().to_string();
    error.replace(&format!("{}/", dir.path().display()), "")
}

/// Every row is what somebody wrote, and the whole message.
#[test]
fn bad_configurations_are_refused_with_the_key_the_range_and_the_value() {
    let rows: &[(&str, &str)] = &[
        // Keys and sections that there are not.
        ("[train]\nepoch = 3", "mine.toml: unknown key train.epoch: did you mean train.epochs?"),
        ("[train]\nsede = 3", "mine.toml: unknown key train.sede: did you mean train.seed?"),
        ("[train]\nbatch_size = 3", "mine.toml: unknown key train.batch_size: did you mean data.batch_size?"),
        ("[run]\ncolour = 3", "mine.toml: unknown key run.colour; [run] has checkpoint_steps, dir, keep"),
        ("epochs = 3", "mine.toml: unknown key epochs: did you mean train.epochs?"),
        ("colour = 3", "mine.toml: unknown key colour; keys stand in sections, as epochs in [train]"),
        ("[trian]\nepochs = 3", "mine.toml: unknown section [trian]: did you mean [train]?"),
        (
            "[network]\ndepth = 3",
            "mine.toml: unknown section [network]; there are [data], [loss], [model], [optimizer], [run], [schedule], \
             [[tasks]], [train]",
        ),
        (
            "[loss.weights]\nages = 1",
            "loss.weights: expected a task: age, gender or race, found ages: did you mean age?",
        ),
        // Values of another kind.
        ("[train]\nepochs = \"three\"", "mine.toml: train.epochs: expected a whole number, found \"three\""),
        ("[train]\nepochs = 3.5", "mine.toml: train.epochs: expected a whole number, found 3.5"),
        ("[train]\nepochs = -3", "mine.toml: train.epochs: expected a whole number of at least 0, found -3"),
        ("[train]\nepochs = [3]", "mine.toml: train.epochs: expected a whole number, found a list"),
        ("[train.epochs]\nn = 3", "mine.toml: train.epochs: expected a whole number, found a section"),
        ("train = 3", "mine.toml: train: expected a section, found 3"),
        ("[optimizer]\nlr = \"1e-3\"", "mine.toml: optimizer.lr: expected a number, found \"1e-3\""),
        ("[optimizer]\nnesterov = 1", "mine.toml: optimizer.nesterov: expected true or false, found 1"),
        ("[data]\nsplits = 3", "mine.toml: data.splits: expected a text in quotes, found 3"),
        // Names of something else.
        (
            "[data]\naugment = \"strong\"",
            "mine.toml: data.augment: unknown variant `strong`, expected one of `fast`, `balanced`, `faster`, `fastest`",
        ),
        (
            "[schedule]\nkind = \"linear\"",
            "mine.toml: schedule.kind: unknown variant `linear`, expected one of `constant`, `cosine`, `step`, `one_cycle`",
        ),
        ("[train]\ndevice = \"tpu\"", "mine.toml: train.device: expected cpu, cuda or cuda:N, found `tpu`"),
        // Values out of range.
        ("[train]\nepochs = 0", "train.epochs: expected 1 to 1000000, found 0"),
        (
            "[train]\nepochs = 9223372036854775807",
            "train.epochs: expected 1 to 1000000, found 9223372036854775807",
        ),
        ("[train]\nmax_steps = 0", "train.max_steps: expected 1 to 1000000000000, found 0"),
        ("[train]\nthreads = 100000", "train.threads: expected 1 to 1024, found 100000"),
        ("[data]\nworkers = 100000", "data.workers: expected 1 to 1024, found 100000"),
        ("[data]\nprefetch = 100000", "data.prefetch: expected 1 to 1024, found 100000"),
        ("[data]\nbatch_size = 1000000", "data.batch_size: expected 1 to 65536, found 1000000"),
        ("[optimizer]\naccumulate = 1000000", "optimizer.accumulate: expected 1 to 65536, found 1000000"),
        ("[optimizer]\nlr = nan", "optimizer.lr: expected a positive number, found NaN"),
        ("[optimizer]\nlr = inf", "optimizer.lr: expected a positive number, found inf"),
        ("[optimizer]\nlr = 0", "optimizer.lr: expected a positive number, found 0"),
        ("[optimizer]\nbeta1 = 1.0", "optimizer.beta1: expected a number in [0, 1), found 1"),
        ("[model]\ndropout = 0.99999999999", "model.dropout: expected at most 0.999, found 0.99999999999"),
        ("[schedule]\nstep_factor = 10.0", "schedule.step_factor: expected at most 1, found 10"),
        (
            "[schedule]\nwarmup_epochs = 1e300",
            "schedule.warmup_epochs: expected at most 1000000, found 1\
             0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
             0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
             0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
        ),
        ("[loss.weights]\nage = -1.0", "loss.weights.age: expected a number of at least 0, found -1"),
        // No TOML.
        ("[train", "mine.toml: line 1: expected TOML: unclosed table, expected `]`"),
        ("[train]\nepochs 3", "mine.toml: line 2: expected TOML: key with no value, expected `=`"),
        ("[train]\nseed = 1\nseed = 2", "mine.toml: line 3: expected TOML: duplicate key"),
        (
            "[train]\nseed = 99999999999999999999",
            "mine.toml: line 2: expected TOML: invalid type: integer `99999999999999999999` as i128, expected any valid TOML value",
        ),
        (
            "{\"train\": {\"epochs\": 3}}",
            "mine.toml: line 1: expected TOML: invalid key-value pair, expected key",
        ),
        (
            "[train]\nep\0ochs = 3",
            "mine.toml: line 2: expected TOML: invalid unquoted key, expected letters, numbers, `-`, `_`",
        ),
        // Of a version to come.
        ("format = 2\n[train]\nepochs = 3", "mine.toml: format: expected 1 to 1, found 2"),
        ("format = \"new\"", "mine.toml: format: expected a whole number, found \"new\""),
    ];
    let wrong: Vec<String> = rows
        .iter()
        .map(|(text, expected)| (text, expected, error(text.as_bytes())))
        .filter(|(_, expected, found)| *expected != found)
        .map(|(text, expected, found)| format!("{text:?}\n  expected {expected}\n  found    {found}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_that_is_no_text_or_far_too_large_is_refused_and_an_empty_one_is_fine() {
    assert_eq!(
        error(b"[train]\nepochs = 3 # gr\xfc\xdf"),
        "mine.toml: line 2: expected UTF-8, found the byte 0xfc"
    );
    let utf_16: Vec<u8> = "[train]".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(
        error(&[&[0xff, 0xfe][..], &utf_16].concat()),
        "mine.toml: line 1: expected UTF-8, found the byte 0xff"
    );
    let huge = "# nothing\n".repeat(200_000);
    assert_eq!(error(huge.as_bytes()), "mine.toml: expected at most 1048576 bytes, found 2000000");
    // A million brackets must not overflow the stack.
    let message = error(&[b"a = ".as_slice(), &b"[".repeat(1_000_000)].concat());
    assert!(message.starts_with("mine.toml: line 1: expected TOML"), "{message}");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty.toml");
    fs_err::write(&path, "").unwrap();
    let builder = || ConfigBuilder::new(Preset::Sample, Path::new(""));
    assert_eq!(builder().file(&path).unwrap().resolve().unwrap(), builder().resolve().unwrap());
    let folder = builder().file(dir.path()).unwrap_err().to_string();
    assert!(folder.contains("expected a regular file, found a folder"), "{folder}");
}

/// A seed beyond what TOML can hold was a panic.
#[test]
fn values_that_the_file_could_not_hold_are_refused_by_their_key() {
    let builder = ConfigBuilder::new(Preset::Sample, Path::new("")).set("train.seed", Some(u64::MAX));
    let message = builder.resolve().unwrap_err().to_string();
    assert_eq!(message, "train.seed: expected at most 9223372036854775807, found 18446744073709551615");
}

/// Any new key once made every older run unreadable.
#[test]
fn configurations_of_runs_of_other_versions_open() {
    let today = Config::read(&fixture("today.toml")).unwrap();
    assert_eq!((today.train.seed, today.optimizer.clip_norm, today.train.patience), (7, Some(1.0), Some(3)));
    assert_eq!(today.loss.weights["race"], 2.0);
    let white_first = Order::List(vec!["White".to_owned(), "Black".to_owned()]);
    assert_eq!(today.tasks.task("race").unwrap().order, white_first);

    // Version 0.1 had FairFace's tasks, and one key by another name.
    let first = Config::read(&fixture("version-0.1.toml")).unwrap();
    assert_eq!((&first.tasks, first.loss.ordered), (&Schema::fairface(), OrderedLoss::Ordinal));

    // An older one lacks keys and whole sections, and the format: they have their defaults.
    let older = Config::read(&fixture("older.toml")).unwrap();
    assert_eq!((older.train.seed, older.train.epochs, older.data.batch_size), (7, 9, 64));
    let Config { optimizer, schedule, loss, run, .. } = Config::default();
    assert_eq!(
        (&older.optimizer, &older.schedule, &older.loss, &older.run),
        (&optimizer, &schedule, &loss, &run)
    );
    assert_eq!(ConfigBuilder::from_config(&older).resolve().unwrap(), older, "it can be resumed");

    // A newer one has keys that nobody here knows: what is known is read.
    let newer = Config::read(&fixture("newer.toml")).unwrap();
    assert_eq!((newer.train.seed, newer.train.epochs), (7, 9));
}

/// As this version writes it: when a key comes, add it to the fixture, and keep the old one as `older`.
#[test]
fn what_this_version_writes_is_what_later_ones_are_tried_with() {
    let today = fs_err::read_to_string(fixture("today.toml")).unwrap();
    assert_eq!(Config::read(&fixture("today.toml")).unwrap().to_toml(), today);
    let keys = |text: &str| text.lines().filter(|line| line.contains(" = ")).count();
    assert!(keys(&today) >= keys(&Config::default().to_toml()), "every key is in it");
}

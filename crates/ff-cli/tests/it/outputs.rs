//! Where results go: readers that leave, disks that are full, files that are somebody else's, places that cannot be
//! written to. The work goes on, results are saved before they are printed, and what is in the way is told before.

use std::fs::File;
use std::process::{Command, Output, Stdio};

use crate::workplace::{Workplace, assert_exit, sample, stderr};
use fs_err as fs;

/// The end of a pipe that nobody reads any more.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

fn place_with_a_run() -> Workplace {
    let place = Workplace::new();
    assert_exit(&place.train(&["--freeze-backbone", "--max-steps", "1", "--run-dir", "run"]), 0);
    place
}

fn faces() -> String {
    sample().join("images").to_string_lossy().into_owned()
}

/// A face of the sample.
fn face() -> String {
    let csv = fs::read_to_string(sample().join("splits/ff_val.csv")).unwrap();
    let row = csv.lines().nth(1).unwrap();
    sample().join("images").join(row.split(',').next().unwrap()).to_string_lossy().into_owned()
}

/// Training ended with a panic at the next line when nobody read its log any more, and lost all since the checkpoint.
#[test]
fn training_goes_on_when_the_readers_of_its_log_and_results_have_left() {
    let place = Workplace::new();
    let train = |dir: &str, stdout: Stdio, stderr: Stdio| -> Output {
        let args = ["--batch-size", "4", "--freeze-backbone", "--epochs", "1", "--run-dir", dir];
        let mut command = place.command(&place.train_args(&args));
        command.stdout(stdout).stderr(stderr).spawn().unwrap().wait_with_output().unwrap()
    };
    let trained = |dir: &str| {
        for file in ["checkpoints/best/model.safetensors", "metrics.csv", "report.html"] {
            assert!(place.path(dir).join(file).is_file(), "{dir} has no {file}");
        }
    };
    assert_exit(&train("closed", closed(), closed()), 0);
    trained("closed");
    // A log that is lost is no failure; results that are lost are one, told when all is saved.
    let output = train("full", full(), Stdio::piped());
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("error: cannot write to stdout: No space left on device"));
    trained("full");
    assert_exit(&train("log", Stdio::piped(), full()), 0);
    trained("log");
}

#[test]
fn every_command_does_its_work_without_a_reader_and_says_that_stdout_is_full() {
    let place = place_with_a_run();
    let (faces, face) = (faces(), face());
    let data = ["--splits", "splits", "--images", &faces];
    let commands: [(&[&str], Option<&str>); 11] = [
        (
            &["evaluate", "--run", "run", "--json", "--bootstrap", "0"],
            Some("run/evaluation/val-bootstrap-0.json"),
        ),
        (
            &["evaluate", "--run", "run", "--split", "test", "--bootstrap", "0"],
            Some("run/evaluation/test-bootstrap-0.json"),
        ),
        (&["predict", "--run", "run", &face], None),
        (&["predict", "--run", "run", "--json", &face], None),
        (&["embed", "--run", "run", "--out", "new/face.safetensors", &face], Some("new/face.safetensors")),
        (&["export", "--run", "run", "--format", "onnx", "--out", "face.onnx"], Some("face.onnx")),
        (&["report", "--run", "run"], Some("run/report.html")),
        (&["split", "--labels", "splits/ff_train.csv", "--out", "made"], Some("made/ff_train.csv")),
        (&[&["audit", "--html", "audit.html"], &data[..]].concat(), Some("audit.html")),
        (&["completions", "bash"], None),
        (&["train", "--help"], None),
    ];
    for (args, made) in commands {
        let run = |stdout: Stdio, stderr: Stdio| {
            if let Some(made) = made {
                let _ = fs::remove_file(place.path(made));
            }
            let child = place.command(args).stdout(stdout).stderr(stderr).spawn().unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(made.is_none_or(|made| place.path(made).is_file()), "{args:?} made nothing");
            output
        };
        let output = run(full(), Stdio::piped());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert_eq!(
            said.matches("error: cannot write to stdout: No space left").count(),
            1,
            "{args:?}: {said}"
        );
        let output = run(closed(), closed());
        assert_eq!(output.status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn files_of_somebody_else_are_replaced_by_force_only_and_own_ones_freely() {
    let place = place_with_a_run();
    let (faces, face) = (faces(), face());
    let audit = ["audit", "--splits", "splits", "--images", &faces, "--html", "out"];
    let commands: [(&[&str], &str); 5] = [
        (&["export", "--run", "run", "--format", "onnx", "--out", "out"], "out"),
        (&["export", "--run", "run", "--format", "safetensors", "--out", "out"], "out"),
        (&["embed", "--run", "run", &face, "--out", "out"], "out"),
        (&audit, "out"),
        (&["man", "--out", "."], "fairface-train.1"),
    ];
    for (args, out) in commands {
        fs::write(place.path(out), "precious").unwrap();
        let output = place.run(args);
        assert_exit(&output, 1);
        assert!(stderr(&output).contains("--force replaces it"), "{args:?}: {}", stderr(&output));
        assert_eq!(fs::read_to_string(place.path(out)).unwrap(), "precious", "{args:?}");
        assert_exit(&place.run(&[args, &["--force"]].concat()), 0);
        let written = fs::read(place.path(out)).unwrap();
        assert_exit(&place.run(args), 0);
        assert!(written == fs::read(place.path(out)).unwrap(), "{args:?} writes the same again");
    }
    // Nothing replaces a good file when nothing came of the work.
    assert_exit(&place.run(&["embed", "--run", "run", &face, "--out", "good"]), 0);
    let good = fs::read(place.path("good")).unwrap();
    fs::write(place.path("broken.jpg"), "no JPEG").unwrap();
    let output = place.run(&["embed", "--run", "run", "broken.jpg", "--out", "good"]);
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("good: not written, as none of 1 images can be used"));
    assert!(good == fs::read(place.path("good")).unwrap());

    let output =
        place.run(&["export", "--run", "run", "--format", "onnx", "--out", "/dev/stdout", "--quiet"]);
    assert_exit(&output, 0);
    assert!(output.stdout.len() > 80_000_000, "a pipe is written into");
}

#[test]
fn a_place_that_cannot_be_written_to_is_told_before_the_work() {
    let place = Workplace::new();
    for (out, expected) in [("/proc/out", "/proc/"), ("splits", "expected a file, found a folder")] {
        for args in [
            &["export", "--run", "nowhere", "--format", "onnx", "--out", out][..],
            &["embed", "--run", "nowhere", "nothing.jpg", "--out", out],
            &["audit", "--splits", "nowhere", "--html", out],
        ] {
            let output = place.run(args);
            assert_exit(&output, 1);
            let said = stderr(&output);
            assert!(said.contains(expected) && !said.contains("nowhere"), "{args:?}: {said}");
        }
    }
    fs::write(place.path("splits/notes.txt"), "the user's").unwrap();
    let output = place.train(&["--run-dir", "splits"]);
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("splits: expected an empty folder or none"), "{}", stderr(&output));
    assert!(!place.path("splits/config.toml").exists());
}

/// The log of a full disk is one message, not one a panic of the panic.
#[test]
fn a_panic_says_in_one_line_that_it_is_a_bug() {
    let place = Workplace::new();
    let panic = |stderr: Stdio| {
        let mut command =
            place.command(&["export", "--run", "run", "--format", "onnx", "--out", "face.onnx"]);
        command.env("FAIRFACE_FAULT", "panic@create:face.onnx").env("RUST_BACKTRACE", "0").stderr(stderr);
        command.spawn().unwrap().wait_with_output().unwrap()
    };
    let output = panic(Stdio::piped());
    assert_exit(&output, 101);
    let said = stderr(&output);
    assert!(said.starts_with("error: this is a bug in fairface: a test asked for it at Create"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_exit(&panic(closed()), 101);
}

/// It was taken for images that are broken.
#[test]
fn a_process_without_file_descriptors_says_so() {
    let place = place_with_a_run();
    for (fault, args) in [
        (
            "emfile@create:face.onnx",
            &["export", "--run", "run", "--format", "onnx", "--out", "face.onnx"][..],
        ),
        ("emfile@create:run/evaluation", &["evaluate", "--run", "run", "--bootstrap", "0"]),
    ] {
        let output = place.command(args).env("FAIRFACE_FAULT", fault).output().unwrap();
        assert_exit(&output, 1);
        assert!(stderr(&output).contains("Too many open files"), "{args:?}: {}", stderr(&output));
    }
}

/// What a machine may lack: each is told by its name, or not needed.
#[test]
fn bare_surroundings_are_told_or_not_needed() {
    let place = place_with_a_run();
    let (faces, face) = (faces(), face());
    let bare = |args: &[&str]| -> Command {
        let mut command = place.command(args);
        command.env_clear().stdin(Stdio::null());
        command
    };
    let data = ["--splits", "splits", "--images", &faces];
    for args in [
        &[&["audit"], &data[..]].concat()[..],
        &["predict", "--run", "run", &face],
        &["evaluate", "--run", "run", "--bootstrap", "0"],
        &["split", "--labels", "splits/ff_train.csv", "--images", &faces, "--out", "made"],
        &place.train_args(&["--batch-size", "4", "--freeze-backbone", "--max-steps", "1"]),
    ] {
        assert_exit(&bare(args).output().unwrap(), 0);
    }
    // Without a home there is no place for weights: the message names what is missing.
    let resnet18 = ["--batch-size", "4", "--init", "pretrained", "--backbone", "resnet18"];
    let output = bare(&place.train_args(&resnet18)).output().unwrap();
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("FAIRFACE_WEIGHTS"), "{}", stderr(&output));
}

/// Training reaches for no network: it works where there is none.
#[cfg(target_os = "linux")]
#[test]
fn training_needs_no_network() {
    if !Command::new("unshare").args(["-rn", "true"]).output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: unshare -rn is not permitted here");
        return;
    }
    let place = Workplace::new();
    let inner =
        place.command(&place.train_args(&["--batch-size", "4", "--freeze-backbone", "--max-steps", "1"]));
    let mut outer = Command::new("unshare");
    outer.arg("-rn").arg(inner.get_program()).args(inner.get_args()).current_dir(place.path(""));
    assert_exit(&outer.env("XDG_CACHE_HOME", place.path("cache")).output().unwrap(), 0);
}

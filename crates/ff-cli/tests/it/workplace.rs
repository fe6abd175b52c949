//! A folder with a handful of the sample's faces to run commands in, and looks at their outputs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

/// A temporary folder with splits of a few of the sample's faces, in which commands run.
pub struct Workplace {
    dir: TempDir,
}

pub fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/sample")
}

impl Workplace {
    /// Splits of 8 training, 5 validation and 3 test faces: a partial batch in every evaluation.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("splits")).unwrap();
        // All labels must occur in the training split, and eight rows do not have them all: one label an attribute.
        for (name, n) in [("ff_train.csv", 8), ("ff_val.csv", 5), ("ff_test.csv", 3)] {
            let text = fs::read_to_string(sample().join("splits").join(name)).unwrap();
            let rows = text.lines().skip(1).take(n).enumerate().map(|(i, row)| {
                let file = row.split(',').next().unwrap();
                format!(
                    "{file},{},{},{}",
                    ["20-29", "3-9"][i % 2],
                    ["Female", "Male"][i % 2],
                    ["Black", "White"][i % 2]
                )
            });
            let rows: Vec<_> = rows.collect();
            fs::write(
                dir.path().join("splits").join(name),
                format!("file,age,gender,race\n{}\n", rows.join("\n")),
            )
            .unwrap();
        }
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.wrapped(env!("CARGO_BIN_EXE_fairface"));
        command.args(args);
        command
    }

    /// A program that runs here, with the variables that `fairface` is to find.
    pub fn wrapped(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.dir.path());
        // No pretrained weights at hand, whatever this machine has.
        command
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env_remove("FAIRFACE_WEIGHTS")
            .env_remove("RUST_LOG");
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// `train` on these faces, and `args`.
    pub fn train_args<'a>(&self, args: &[&'a str]) -> Vec<&'a str> {
        let images = Box::leak(sample().join("images").to_string_lossy().into_owned().into_boxed_str());
        let data = ["train", "--splits", "splits", "--images", images, "--workers", "2"];
        [&data[..], args].concat()
    }

    /// Runs `train` on these faces with two batches an epoch, and `args`.
    pub fn train(&self, args: &[&str]) -> Output {
        self.run(&self.train_args(&[&["--batch-size", "4"], args].concat()))
    }
}

#[track_caller]
pub fn assert_exit(output: &Output, code: i32) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(
        output.status.code(),
        Some(code),
        "stdout: {}\nstderr: {}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("stdout is one JSON object")
}

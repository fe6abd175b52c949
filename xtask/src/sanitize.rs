//! `cargo xtask sanitize [address|thread|miri|loom]`: the tests of the crates that share memory or touch it raw, under
//! what notices misuse.
//!
//! | what | notices |
//! |---|---|
//! | `address` | reads and writes outside allocations, use after free, leaks; arithmetic that wraps |
//! | `thread` | accesses of two threads that nothing orders |
//! | `miri` | undefined behaviour of any kind, on the portable kernels, on small shapes |
//! | `loom` | every interleaving of fork-join and claims, within a bound |
//!
//! The first three need the nightly toolchain. With its `rust-src` the standard library is instrumented too; without it
//! ThreadSanitizer may accuse the standard library's own locks. `rustup +nightly component add rust-src miri` gets
//! both. Everything is built in folders of its own, `target/sanitize/*`, without candle.

use std::path::Path;
use std::process::{Command, ExitCode};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const USAGE: &str = "usage: cargo xtask sanitize [address|thread|miri|loom]...";
const ALL: [&str; 4] = ["address", "thread", "miri", "loom"];

/// Tests of a package that are worth it; those of the GPU's sources run on fibres, which no sanitizer follows.
const TESTS: [(&str, &[&str]); 3] = [
    ("ff-core", &["--lib"]),
    (
        "ff-kernels",
        &[
            "--lib",
            "--test=claims",
            "--test=convolution",
            "--test=image",
            "--test=misuse",
            "--test=network",
            "--test=pooling",
            "--test=separable",
            "--test=threads",
        ],
    ),
    ("ff-data", &["--lib", "--test=it"]),
];

/// Runs what is named, or everything.
pub fn run(root: &Path, asked: &[String]) -> ExitCode {
    if let Some(unknown) = asked.iter().find(|name| !ALL.contains(&name.as_str())) {
        eprintln!("error: expected one of {}, found `{unknown}`\n{USAGE}", ALL.join(", "));
        return ExitCode::from(2);
    }
    let asked = ALL.into_iter().filter(|name| asked.is_empty() || asked.iter().any(|given| given == name));
    let mut failed = Vec::new();
    for name in asked {
        let passed = match name {
            "miri" => miri(root),
            "loom" => loom(root),
            sanitizer => sanitizer_tests(root, sanitizer),
        };
        if !passed {
            failed.push(name);
        }
    }
    match failed.as_slice() {
        [] => ExitCode::SUCCESS,
        _ => {
            eprintln!("error: failed: {}", failed.join(", "));
            ExitCode::FAILURE
        }
    }
}

fn sanitizer_tests(root: &Path, sanitizer: &str) -> bool {
    let instrumented = has_component("rust-src");
    if !instrumented {
        eprintln!(
            "note: no rust-src: the standard library is not instrumented, reports from inside it may be wrong"
        );
    }
    TESTS.into_iter().all(|(package, tests)| {
        let mut cargo = cargo(root, "+nightly", sanitizer);
        cargo.args(["test", "--release", "--locked", "--target", TARGET, "--package", package]).args(tests);
        if instrumented {
            cargo.arg("-Zbuild-std");
        }
        cargo.env("RUSTFLAGS", format!("-Zsanitizer={sanitizer}"));
        // The library's own checks, and arithmetic that wraps where nobody meant it.
        cargo.env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true");
        // The first report ends the test.
        cargo.env("TSAN_OPTIONS", "halt_on_error=1");
        let suppressions = root.join("xtask/leaks.supp");
        cargo.env("LSAN_OPTIONS", format!("suppressions={}", suppressions.display()));
        // It limits its addresses, of which sanitizers take terabytes.
        cargo.args(["--", "--skip=what_claims_to_be_huge_is_refused_before_memory_is_taken"]);
        succeeds(&mut cargo)
    })
}

fn miri(root: &Path) -> bool {
    if !has_component("miri") {
        eprintln!("error: the nightly toolchain has no Miri: `rustup +nightly component add miri rust-src`");
        return false;
    }
    let mut cargo = cargo(root, "+nightly", "miri");
    cargo.args(["miri", "test", "--locked", "--package", "ff-kernels", "--lib"]);
    cargo.args(
        ["claims", "image", "convolution", "misuse", "network", "pooling", "separable", "threads"]
            .map(|t| format!("--test={t}")),
    );
    cargo.args(["--", "small", "claim", "memory", "panic", "refuse", "threads_fill"]);
    // A payload that panics when it is dropped is let go of on purpose, which is a leak.
    cargo.arg("--skip=payloads_that_panic_when_dropped_stop_nothing");
    // Sleeping and the clock are the host's.
    cargo.env("MIRIFLAGS", "-Zmiri-disable-isolation");
    succeeds(&mut cargo)
}

fn loom(root: &Path) -> bool {
    let mut cargo = cargo(root, "", "loom");
    cargo.args(["test", "--release", "--locked", "--package", "ff-kernels", "--lib", "models"]);
    cargo.args(["--", "--nocapture", "--test-threads=1"]).env("RUSTFLAGS", "--cfg loom");
    succeeds(&mut cargo)
}

/// Whether the nightly toolchain has a component: by a file that it brings.
fn has_component(name: &str) -> bool {
    let mut rustc = Command::new("rustc");
    let found = rustc.args(["+nightly", "--print", "sysroot"]).env_remove("RUSTUP_TOOLCHAIN").output();
    let Ok(found) = found else { return false };
    let sysroot = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    match name {
        "miri" => Path::new(&sysroot).join("bin/cargo-miri").exists(),
        _ => Path::new(&sysroot).join("lib/rustlib/src/rust/library/Cargo.lock").exists(),
    }
}

/// Cargo of a toolchain, building in a folder of this command's own.
fn cargo(root: &Path, toolchain: &str, name: &str) -> Command {
    let mut cargo = Command::new("cargo");
    // What this command was started by must not choose for it.
    cargo.current_dir(root).env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
    if !toolchain.is_empty() {
        cargo.arg(toolchain);
    }
    cargo.env("CARGO_TARGET_DIR", root.join("target/sanitize").join(name));
    // Tests that panic on purpose are many, and a backtrace takes Miri minutes.
    cargo.env("RUST_BACKTRACE", "0");
    cargo
}

fn succeeds(cargo: &mut Command) -> bool {
    eprintln!("+ {cargo:?}");
    match cargo.status() {
        Ok(status) => status.success(),
        Err(e) => {
            eprintln!("error: starting cargo: {e}");
            false
        }
    }
}

//! With feature `cuda`: compiles the GPU kernels to one fat binary, `OUT_DIR/kernels.fatbin`, and passes on the
//! toolkit's version as `FF_CUDA_VERSION`. Without it: nothing.

#![expect(clippy::print_stderr, reason = "cargo shows it")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Machine code for A100 (and, within the major version, RTX 30 and 40) and for H100 and H200; PTX for what is newer.
const TARGETS: [&str; 3] =
    ["arch=compute_80,code=sm_80", "arch=compute_90,code=sm_90", "arch=compute_90,code=compute_90"];

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return ExitCode::SUCCESS;
    }
    println!("cargo:rerun-if-changed=src/gpu/kernels");
    for variable in ["CUDA_HOME", "CUDA_PATH"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn compile() -> Result<(), String> {
    let nvcc = nvcc()?;
    let version = run(Command::new(&nvcc).arg("--version"))?;
    let version = release(&version).ok_or_else(|| {
        format!("{}: expected `release X.Y` in --version, found:\n{version}", nvcc.display())
    })?;
    println!("cargo:rustc-env=FF_CUDA_VERSION={version}");

    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("kernels.fatbin");
    let mut command = Command::new(&nvcc);
    command.args(["-std=c++17", "-O3", "--fatbin"]);
    for target in TARGETS {
        command.args(["-gencode", target]);
    }
    command.arg("-o").arg(out).arg(Path::new("src/gpu/kernels/kernels.cu"));
    run(&mut command).map(drop)
}

/// The compiler on the PATH, or that of the toolkit's folder.
fn nvcc() -> Result<PathBuf, String> {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let toolkits = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os);
    let folders = std::env::split_paths(&on_path).chain(toolkits.map(|home| PathBuf::from(home).join("bin")));
    folders.map(|folder| folder.join("nvcc")).find(|nvcc| nvcc.is_file()).ok_or_else(|| {
        "feature `cuda` needs CUDA's compiler: found no nvcc on the PATH, nor in bin/ of CUDA_HOME or CUDA_PATH.\n\
         Install CUDA 13 and add its bin folder to the PATH, or build without `--features cuda`."
            .to_owned()
    })
}

/// `13.0` of `Cuda compilation tools, release 13.0, V13.0.88`.
fn release(version: &str) -> Option<&str> {
    let (_, rest) = version.split_once("release ")?;
    rest.split(',').next().filter(|release| release.contains('.'))
}

/// Runs a command; its standard output, or all that it said.
fn run(command: &mut Command) -> Result<String, String> {
    let line = |command: &Command| {
        let words: Vec<OsString> =
            std::iter::once(command.get_program()).chain(command.get_args()).map(ToOwned::to_owned).collect();
        words.join(" ".as_ref()).to_string_lossy().into_owned()
    };
    let output = command.output().map_err(|e| format!("{}: {e}", line(command)))?;
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    if output.status.success() {
        Ok(stdout)
    } else {
        Err(format!("{}: {}\n{stdout}{stderr}", line(command), output.status))
    }
}

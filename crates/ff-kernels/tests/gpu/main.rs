//! The GPU engine without a GPU: its programs, on its kernels' own sources compiled for the host, beside their twins.
//!
//! It needs a C++ compiler (`c++` or `CXX`); where there is none the test says so and passes.

#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a test says what it skips and measures")]

mod convolution;
mod emulator;
mod heads;
mod resnet34;

use emulator::Emulator;
use ff_kernels::gpu::check;

#[test]
fn every_kernel_agrees_with_its_twin() {
    let Some(mut emulator) = Emulator::new() else {
        eprintln!("skipped: no C++ compiler, expected `c++` or CXX");
        return;
    };
    let verdicts = check::run(&mut emulator).unwrap();
    assert!(verdicts.len() > 200, "only {} checks ran", verdicts.len());
    for verdict in &verdicts {
        println!("{:.2e} of {:.2e} {}", verdict.difference, verdict.tolerance, verdict.name);
    }
    let failed: Vec<_> = verdicts.iter().filter(|v| !v.passed()).collect();
    assert!(failed.is_empty(), "{} of {} checks failed, first {:?}", failed.len(), verdicts.len(), failed[0]);
}

#[test]
fn a_wrong_argument_list_is_noticed() {
    let Some(mut emulator) = Emulator::new() else { return };
    use ff_kernels::gpu::{Arg, Launch, Machine};
    let launch = |kernel: &str, args| Launch { kernel: kernel.into(), grid: [1; 3], args };
    assert!(emulator.launch(&launch("no_such_kernel", vec![])).unwrap_err().contains("no_such_kernel"));
    assert!(emulator.launch(&launch("add_f32", vec![Arg::U32(1)])).unwrap_err().contains("argument"));
}

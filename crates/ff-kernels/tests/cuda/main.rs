//! The GPU's driver code, run: on a GPU, or on stand-ins for libcuda, libcudnn and libnccl (`driver.cpp`, `cudnn.cpp`,
//! `nccl.cpp`) that run on the processor. `.ci/cuda-on-cpu` makes the stand-ins and runs this on them.

#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::print_stderr, reason = "a test says what it skips")]

mod engine;
mod errors;
mod fake;
#[cfg(feature = "nccl")]
mod nccl;
mod strict;
mod uploads;

use ff_kernels::gpu::device::check_kernels;
use ff_kernels::gpu::{Arg, Bases, Launch};

#[test]
fn every_kernel_agrees_with_its_twin() {
    let device = fake::alone();
    let verdicts = check_kernels(&device.gpu()).unwrap();
    assert!(verdicts.len() > 200, "only {} checks ran", verdicts.len());
    let failed: Vec<_> = verdicts.iter().filter(|v| !v.passed()).collect();
    assert!(failed.is_empty(), "{} of {} checks failed, first {:?}", failed.len(), verdicts.len(), failed[0]);
}

#[test]
fn a_kernel_that_is_none_is_named() {
    let device = fake::alone();
    let launch = Launch { kernel: "no_such_kernel".into(), grid: [1; 3], args: vec![Arg::Null] };
    // SAFETY: it is not launched.
    let error = unsafe { device.gpu().launch(&launch, &Bases::default()) }.unwrap_err();
    assert_eq!(error.to_string(), "no GPU kernel named `no_such_kernel` in this build");
}

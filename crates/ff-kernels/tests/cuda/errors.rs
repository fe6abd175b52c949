//! What users read when there is no GPU, an old one, an old driver, or too little memory.

use ff_kernels::gpu::device::{Engine, Error, Gpu, Pinned};
use ff_kernels::gpu::{Element, Program};
use ff_kernels::network::Config;

use crate::fake;

fn looked(name: &'static str, value: i64, default: i64, ordinal: usize) -> Option<String> {
    let mut device = fake::alone_on_fake()?;
    device.set(name, value, default);
    Some(Gpu::look(ordinal).unwrap_err().to_string())
}

#[test]
fn what_there_is_is_described() {
    let _device = fake::alone();
    let found = Gpu::look(0).unwrap();
    assert!(found.driver >= (13, 0) && found.capability >= (8, 0), "{found:?}");
    assert!(found.memory > 0 && found.multiprocessors > 0 && found.clock_mhz > 0, "{found:?}");
}

#[test]
fn no_gpu() {
    let Some(error) = looked("devices", 0, 1, 0) else { return };
    assert!(error.starts_with("no GPU number 0: the driver finds none"), "{error}");
}

#[test]
fn fewer_gpus() {
    let Some(error) = looked("devices", 1, 1, 3) else { return };
    assert_eq!(error, "no GPU number 3: expected one below 1, as many as the driver finds");
}

#[test]
fn an_old_driver() {
    let Some(error) = looked("driver", 12_040, 13_000, 0) else { return };
    assert!(error.contains("it supports CUDA 12.4, this program needs CUDA 13.0"), "{error}");
}

#[test]
fn an_old_gpu() {
    let Some(error) = looked("capability", 75, 90, 0) else { return };
    assert!(error.contains("compute capability 7.5, the kernels need 8.0 or later"), "{error}");
}

#[test]
fn out_of_memory_says_what_is_free_and_leaves_the_gpu_usable() {
    let Some(mut device) = fake::alone_on_fake() else { return };
    let gpu = device.gpu();
    let program = || Program::infer(&Config::resnet34(), Element::Bf16, 2, 64, 64);
    device.set("memory", 3 << 20, 1 << 30);
    let Err(error) = Engine::new(&gpu, program(), false) else { panic!("it fits") };
    let Error::OutOfMemory { asked, free, total, batch: None } = error else { panic!("{error}") };
    assert_eq!((asked, free, total), (program().arena_len(), 3 << 20, 3 << 20));
    assert_eq!(gpu.memory().unwrap(), (3 << 20, 3 << 20));
    gpu.synchronize().unwrap();
    Pinned::new(&gpu, 100).unwrap();
}

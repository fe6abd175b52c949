//! Plans for a GPU that is not there: cuDNN's own heuristics and engines on every convolution of ResNet-34.

use super::*;
use crate::gpu::{Command, Convolve, Program};
use crate::network::Config;

/// What cuDNN asks an H200 about itself, as it would write it down.
const H200: &str = r#"{"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"regsPerBlock":65536,
"multiProcessorCount":132,"warpSize":32,"maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":232448,
"reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,"maxCtasPerSM":32,"maxThreadsPerBlock":1024,
"maxThreadsPerSM":2048,"pciDeviceId":0,"isTccDriver":0,"supportCoopLaunch":1,"totalGlobalMem":150110011392,
"smClockRateKHz":1980000,"memClockRateKHz":3201000,"l2CacheSize":62914560,"cudaDeviceId":0,"deviceVer":900,
"driverVer":13000,"deviceName":"NVIDIA H200"}"#;

fn h200() -> Descriptor {
    Descriptor::new(Kind::CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR)
        .and_then(|properties| {
            properties.set(Name::CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, H200.as_bytes())
        })
        .and_then(|properties| properties.finalize("a device's properties"))
        .unwrap()
}

/// Every distinct convolution of a step and of a prediction.
fn convolutions(element: Element, batch: usize) -> Vec<Convolve> {
    let program = |make: fn(&Config, Element, usize, usize, usize) -> Program| {
        let Program { forward, backward, .. } = make(&Config::resnet34(), element, batch, 224, 224);
        forward.into_iter().chain(backward)
    };
    let mut distinct: Vec<Convolve> = Vec::new();
    for command in program(Program::train).chain(program(Program::infer)) {
        if let Command::Convolve(convolve) = command
            && !distinct.iter().any(|d| (d.geometry, d.operation) == (convolve.geometry, convolve.operation))
        {
            distinct.push(convolve);
        }
    }
    distinct
}

/// Needs NVIDIA's cuDNN, but no GPU.
#[test]
#[ignore = "needs cuDNN itself: see docs/guide.md"]
fn every_convolution_has_a_plan_on_an_h200() {
    let properties = h200();
    for (element, tf32) in [(Element::Bf16, false), (Element::F32, true), (Element::F32, false)] {
        for convolve in [1, 256].into_iter().flat_map(|batch| convolutions(element, batch)) {
            let (geometry, operation) = (convolve.geometry, convolve.operation);
            let demands = Demands::new(element, tf32);
            let (_, plans) = plans(Target::Properties(&properties), &geometry, operation, demands).unwrap();
            let engines: Vec<i64> = plans.iter().map(|plan| plan.engine).collect();
            let most = plans.iter().map(|plan| plan.workspace >> 20).max().unwrap_or(0);
            let certain = plans.iter().all(|plan| plan.deterministic);
            println!(
                "{element} tf32 {tf32} {operation:?} {geometry:?}: engines {engines:?}, {most} MiB, deterministic {certain}"
            );
            assert!(!plans.is_empty(), "{element} tf32 {tf32} {operation:?} {geometry:?}: no plan");
        }
    }
}

//! An ONNX file read back field by field: names, order and sizes. What it computes is tested where Python is at hand.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::HashSet;

use candle_core::Device;
use ff_model::onnx::{self, BatchNorm, Input, Options, Output};
use ff_model::{Architecture, Parameters, TaskLabels};

/// A protobuf message: (field, bytes or number), in order.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            2 => {
                let n = varint(&mut bytes) as usize;
                let (value, rest) = bytes.split_at(n);
                bytes = rest;
                Field::Bytes(value)
            }
            5 => {
                bytes = &bytes[4..];
                Field::Number(0)
            }
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, value));
    }
    fields
}

#[derive(Clone, Copy)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let n = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let (value, rest) = bytes.split_at(n);
    *bytes = rest;
    value.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
}

fn messages<'a>(message: &'a [u8], field: u64) -> Vec<&'a [u8]> {
    let of = |(f, value): (u64, Field<'a>)| match value {
        Field::Bytes(bytes) if f == field => Some(bytes),
        _ => None,
    };
    fields(message).into_iter().filter_map(of).collect()
}

fn texts(message: &[u8], field: u64) -> Vec<String> {
    messages(message, field).into_iter().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).collect()
}

#[test]
fn every_name_is_defined_before_it_is_used_and_no_parameter_is_missing() {
    let task = |task: &str, n: usize| TaskLabels {
        task: ff_core::Schema::fairface().task(task).unwrap().clone(),
        labels: (0..n).map(|i| i.to_string()).collect(),
    };
    let tasks = [task("age", 9), task("gender", 2), task("race", 7)];
    let kept = Options::default();
    let folded = Options {
        input: Input::Bytes,
        output: Output::Probabilities,
        batch_norm: BatchNorm::Folded,
        height: 64,
        width: 96,
    };
    for architecture in Architecture::ALL {
        let heads = tasks.clone().map(|t| t.head());
        let parameters = Parameters::initialise(architecture, &heads, 0, &Device::Cpu).unwrap();
        // Folded: a bias a filter instead of four numbers, and mean and deviation of three channels.
        let statistics = parameters.statistics_layout().len();
        let n_kept = parameters.layout().len() + statistics;
        for (options, n_values) in [(kept, n_kept), (folded, n_kept - 2 * statistics + statistics / 2 + 6)] {
            check(&onnx::export(&parameters, &tasks, &options).unwrap(), architecture, &options, n_values);
        }
    }
}

fn check(file: &[u8], architecture: Architecture, options: &Options, n_values: usize) {
    let opset = messages(file, 8)[0];
    assert!(fields(opset).iter().any(|(f, v)| *f == 2 && matches!(v, Field::Number(17))));
    let metadata = messages(file, 14);
    assert_eq!(texts(metadata[0], 1), ["labels"]);
    assert!(texts(metadata[0], 2)[0].starts_with(r#"{"age":["0","1","#));
    let says: Vec<_> = metadata[1..].iter().map(|entry| (texts(entry, 1), texts(entry, 2))).collect();
    match architecture {
        Architecture::Resnet34 => assert_eq!(says, []),
        other => assert_eq!(says, [(vec!["architecture".to_owned()], vec![other.to_string()])]),
    }

    let graph = messages(file, 7)[0];
    // ValueInfoProto.type.tensor_type.shape.dim.dim_value
    let dims = [2, 1, 2, 1].iter().fold(messages(graph, 11), |messages_of, &field| {
        messages_of.into_iter().flat_map(|message| messages(message, field)).collect()
    });
    let size = |dim: &&[u8]| {
        fields(dim).iter().find_map(|(_, v)| if let Field::Number(n) = v { Some(*n) } else { None })
    };
    let sizes: Vec<u64> = dims.iter().filter_map(size).collect();
    let (height, width) = (options.height as u64, options.width as u64);
    match options.input {
        Input::Normalised => assert_eq!(sizes, [3, height, width]),
        Input::Bytes => assert_eq!(sizes, [height, width, 3]),
    }
    let outputs: Vec<_> = messages(graph, 12).iter().flat_map(|o| texts(o, 1)).collect();
    assert_eq!(outputs, ["age", "gender", "race"]);
    let initializers = messages(graph, 5);
    let values: usize = initializers.iter().map(|tensor| messages(tensor, 9)[0].len() / 4).sum();
    assert_eq!(values, n_values);
    let mut defined: HashSet<String> = initializers.iter().flat_map(|tensor| texts(tensor, 8)).collect();
    assert_eq!(defined.len(), initializers.len());
    defined.extend(messages(graph, 11).iter().flat_map(|input| texts(input, 1)));
    for node in messages(graph, 1) {
        for input in texts(node, 1) {
            assert!(defined.contains(&input), "{input} is used before it is made");
        }
        for output in texts(node, 2) {
            assert!(defined.insert(output.clone()), "{output} is made twice");
        }
    }
    assert!(outputs.iter().all(|output| defined.contains(output)));
}

#[test]
fn images_that_no_network_takes_are_refused() {
    let parameters = Parameters::initialise(Architecture::Resnet34, &[], 0, &Device::Cpu).unwrap();
    let message = onnx::export(&parameters, &[], &Options { height: 16, ..Options::default() }).unwrap_err();
    assert!(message.to_string().contains("expected images of shape (B, 3, H, W)"), "{message}");
}

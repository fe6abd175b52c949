//! The fuzzers of weights, on inputs that are drawn here: see `fuzz/README.md`.

#[path = "../../../fuzz/src/model.rs"]
mod model;
#[path = "../../../fuzz/src/mutate.rs"]
mod mutate;

#[test]
fn weights_of_any_bytes_are_read_or_refused() {
    mutate::run("safetensors", model::safetensors);
    mutate::run("state_dict", model::state_dict);
    mutate::run("pickle", model::pickle);
    mutate::run("onnx", model::onnx);
}

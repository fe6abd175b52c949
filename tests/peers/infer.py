#!/usr/bin/env python3
"""Inference on a CPU in PyTorch, ONNX Runtime or OpenVINO, in float32 or below.

bf16: PyTorch's tensors, or OpenVINO's hint. int8: a model that ONNX Runtime has quantised, a scale an output channel of the
weights, calibrated on the images; kept as int8.onnx beside the model. README.md says how to call it.
"""
import os

from common import answer, arguments, difference, images, median_ms, torch_model

ARGS = arguments(
    __doc__,
    system=dict(choices=["pytorch", "onnxruntime", "openvino"]),
    precision=dict(choices=["f32", "bf16", "int8"]),
    model=dict(help="a folder with model.safetensors, model.onnx and logits.json"),
)


def file(name):
    return os.path.join(ARGS.model, name)


def pytorch(batch):
    import torch

    torch.set_num_threads(ARGS.threads)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[ARGS.precision]
    model = torch_model(file("model.safetensors")).eval().to(dtype, memory_format=torch.channels_last)
    batch = torch.from_numpy(batch).to(dtype, memory_format=torch.channels_last)

    def run():
        with torch.inference_mode():
            return [logits.float().numpy() for logits in model(batch)]

    return run


def onnxruntime(batch):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = ARGS.threads
    path = {"f32": file("model.onnx"), "int8": quantised}[ARGS.precision]
    path = path(batch) if callable(path) else path
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"images": batch})


def openvino(batch):
    import openvino

    path = quantised(batch) if ARGS.precision == "int8" else file("model.onnx")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if ARGS.precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": ARGS.threads,
    }
    model = openvino.Core().compile_model(path, "CPU", settings)

    def run():
        outputs = model(batch)
        return [outputs[i] for i in range(len(model.outputs))]

    return run


def quantised(batch):
    """The model in 8 bits, made once."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path, whole, part = file("int8.onnx"), file("shaped.onnx"), file("int8.part.onnx")
    if os.path.exists(path):
        return path

    class Calibration(CalibrationDataReader):
        batches = iter([{"images": batch}])

        def get_next(self):
            return next(self.batches, None)

    quant_pre_process(file("model.onnx"), whole, skip_symbolic_shape=True)
    types = dict(activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    quantize_static(whole, part, Calibration(), quant_format=QuantFormat.QDQ, per_channel=True, **types)
    os.remove(whole)
    os.replace(part, path)
    return path


run = {"pytorch": pytorch, "onnxruntime": onnxruntime, "openvino": openvino}[ARGS.system](
    images(ARGS.batch_size, ARGS.image_size)
)
off = difference(run(), file("logits.json"))
answer(median_ms(run, 2, ARGS.steps), difference=off)

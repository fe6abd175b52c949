#!/usr/bin/env python3
"""YuNet in ONNX Runtime (n) and OpenCV's FaceDetectorYN (s), one thread, on the montage of 640 x 480.

    pip install numpy onnx onnxruntime opencv-python-headless
    tests/peers/faces.py [REPEATS]

The networks are built from this repository's weights, so both compute what `ff-faces` computes. Prints one JSON object.
"""
import json, os, struct, sys, time

os.environ["OMP_NUM_THREADS"] = "1"
import cv2
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def weights(name):
    data = open(os.path.join(ROOT, "crates/ff-faces/data", f"yunet_{name}_f16.safetensors"), "rb").read()
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    return {
        key: np.frombuffer(body[slice(*info["data_offsets"])], np.float16).reshape(info["shape"]).astype(np.float32)
        for key, info in header.items()
        if key != "__metadata__"
    }


def build(name, height, width):
    """The network as an ONNX file with the names that OpenCV expects."""
    tensors, nodes, outputs, count = weights(name), [], [], iter(range(10**6))

    def node(kind, inputs, **attributes):
        out = f"{kind.lower()}_{next(count)}"
        nodes.append(helper.make_node(kind, inputs, [out], **attributes))
        return out

    def conv(x, prefix, **attributes):
        return node("Conv", [x, prefix + ".weight", prefix + ".bias"], **attributes)

    def unit(x, prefix, relu=True):
        x = conv(x, prefix + ".pw", kernel_shape=[1, 1])
        channels = len(tensors[prefix + ".dw.bias"])
        x = conv(x, prefix + ".dw", kernel_shape=[3, 3], pads=[1] * 4, group=channels)
        return node("Relu", [x]) if relu else x

    def pool(x):
        return node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])

    def stage(x, i, first=1):
        for j in range(first, 3):
            x = unit(x, f"backbone.model{i}.conv{j}")
        return x

    x = node("Relu", [conv("input", "backbone.model0.conv1", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)])
    x = stage(stage(pool(stage(x, 0, 2)), 1), 2)
    f8 = stage(pool(x), 3)
    f16 = stage(pool(f8), 4)
    f32 = stage(pool(f16), 5)
    p32 = unit(f32, "neck.lateral_convs.2")
    up = dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    p16 = unit(node("Add", [f16, node("Resize", [p32, "", "scales"], **up)]), "neck.lateral_convs.1")
    p8 = unit(node("Add", [f8, node("Resize", [p16, "", "scales"], **up)]), "neck.lateral_convs.0")
    tensors["scales"] = np.array([1, 1, 2, 2], np.float32)
    by_part = {"cls": [], "obj": [], "bbox": [], "kps": []}
    for level, (stride, p) in enumerate([(8, p8), (16, p16), (32, p32)]):
        share = f"bbox_head.multi_level_share_convs.{level}.0"
        p = unit(p, share) if share + ".pw.weight" in tensors else p
        for part in by_part:
            y = unit(p, f"bbox_head.multi_level_{part}.{level}", relu=False)
            y = node("Transpose", [y], perm=[0, 2, 3, 1])
            channels, cells = len(tensors[f"bbox_head.multi_level_{part}.{level}.pw.bias"]), height * width // stride**2
            tensors[f"shape_{part}_{stride}"] = np.array([1, cells, channels], np.int64)
            y = node("Reshape", [y, f"shape_{part}_{stride}"])
            out = f"{part}_{stride}"
            nodes.append(helper.make_node("Sigmoid" if part in ("cls", "obj") else "Identity", [y], [out]))
            by_part[part].append(helper.make_tensor_value_info(out, TensorProto.FLOAT, [1, cells, channels]))
    outputs = [info for part in by_part.values() for info in part]
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, height, width])
    initializers = [numpy_helper.from_array(value, key) for key, value in tensors.items()]
    graph = helper.make_graph(nodes, "yunet", [image], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def median_ms(run, repeats):
    for _ in range(5):
        run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    return round(sorted(times)[len(times) // 2], 3)


def main():
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    cv2.setNumThreads(1)
    image = cv2.imread(os.path.join(ROOT, "data/photos/fairface_montage.png"))
    height, width = image.shape[:2]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    result = {"size": [width, height]}
    for name in "ns":
        model = build(name, height, width)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        blob = np.ascontiguousarray(image.transpose(2, 0, 1)[None].astype(np.float32))
        result[f"onnxruntime_{name}_ms"] = median_ms(lambda: session.run(None, {"input": blob}), repeats)
        detector = cv2.FaceDetectorYN.create("onnx", np.frombuffer(model, np.uint8), np.empty(0, np.uint8), (width, height), 0.6, 0.3)
        result[f"opencv_{name}_faces"] = len(detector.detect(image)[1])
        result[f"opencv_{name}_ms"] = median_ms(lambda: detector.detect(image), repeats)
    print(json.dumps(result))


main()

"""What the scripts of `bench compare` share: arguments, our model's weights, the images, the clock, the answer."""
import argparse
import json
import os
import statistics
import struct
import time


def arguments(description, **more):
    """The arguments that every script takes, and `more`: name -> what argparse is told."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--image-size", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True, help="that compute, or that load")
    parser.add_argument("--steps", type=int, required=True, help="that are timed")
    for name, told in more.items():
        parser.add_argument("--" + name.replace("_", "-"), required=True, **told)
    return parser.parse_args()


def images(batch_size, size):
    """(B,3,S,S) float32: those of `bench train` and `bench infer`."""
    import numpy as np

    values = (np.arange(batch_size * 3 * size * size) % 251).astype(np.float32)
    return (values / np.float32(62.5) - np.float32(2)).reshape(batch_size, 3, size, size)


def tensors(path):
    """A safetensors file of f32: its metadata, and name -> array."""
    import numpy as np

    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata, body = header.pop("__metadata__", {}), data[8 + length :]
    array = lambda info: np.frombuffer(body[slice(*info["data_offsets"])], np.float32).reshape(info["shape"])
    return metadata, {name: array(info) for name, info in header.items()}


def torch_model(path):
    """Our model file as a module of torchvision's ResNet and our heads; it gives the logits of every task."""
    import torch
    import torchvision

    metadata, weights = tensors(path)

    class FaceModel(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = getattr(torchvision.models, metadata.get("architecture", "resnet34"))(weights=None)
            self.backbone.fc = torch.nn.Identity()
            width = len(weights["shared.0.bias"])
            self.shared = torch.nn.Sequential(torch.nn.Linear(512, width), torch.nn.ReLU(), torch.nn.Dropout(0.3))
            self.heads = [f"{task}_head" for task in json.loads(metadata["labels"])]
            for head in self.heads:
                self.add_module(head, torch.nn.Linear(width, len(weights[head + ".bias"])))

        def forward(self, batch):
            features = self.shared(self.backbone(batch))
            return [getattr(self, head)(features) for head in self.heads]

    model = FaceModel()
    state = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    strange = unexpected + [name for name in missing if not name.endswith("num_batches_tracked")]
    assert not strange, f"{path}: expected the tensors of the same network, found others: {strange[:3]}"
    return model


def difference(outputs, expected):
    """The largest difference of the first image's logits from ours, over the largest of ours.

    `outputs`: (B, classes) a task; `expected`: a JSON file with the first image's logits of all tasks, one after the
    other.
    """
    import numpy as np

    with open(expected) as file:
        ours = np.array(json.load(file))
    theirs = np.concatenate([np.asarray(output, np.float64)[0] for output in outputs])
    assert theirs.shape == ours.shape, f"expected {ours.shape} logits, found {theirs.shape}"
    return float(np.abs(theirs - ours).max() / np.abs(ours).max())


def median_ms(step, warm_up, steps):
    """Milliseconds of a step, the median, after some that are not timed."""
    for _ in range(warm_up):
        step()
    times = []
    for _ in range(steps):
        begun = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(times)


def answer(ms_per_batch, **more):
    """Prints the answer: the last line on stdout, an object with `ms_per_batch`."""
    print(json.dumps({"ms_per_batch": ms_per_batch, "peak_rss_mib": peak_rss_mib(), **more}), flush=True)


def peak_rss_mib():
    """The most memory that this process has had resident; known on Linux only.

    Not `getrusage`, whose figure begins with that of the process that started this one.
    """
    if not os.path.exists("/proc/self/status"):
        return None
    with open("/proc/self/status") as file:
        return next((int(line.split()[1]) >> 10 for line in file if line.startswith("VmHWM:")), None)

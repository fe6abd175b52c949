"""Makes golden.safetensors: what torchvision's resnet18 computes in float64 with made-up weights on made-up images.

Run: python make.py   (torch, torchvision, safetensors, numpy)

Weights and images come from `noise`, which tests/resnet18.rs repeats bit for bit, so only answers are kept: embeddings,
and of every gradient its length and first 16 values. The loss is `sum(embedding * noise)`.
"""
import pathlib

import numpy as np
import torch
import torchvision
from safetensors.torch import save_file

IMAGES = (4, 3, 96, 64)


def noise(stream, shape):
    """Values in [-1, 1): splitmix64 of (stream, place)."""
    with np.errstate(over="ignore"):
        z = (np.uint64(stream) << np.uint64(32)) + np.arange(np.prod(shape), dtype=np.uint64)
        z = z * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1.0).reshape(shape)


def value(name, tensor, stream):
    u = noise(stream, tuple(tensor.shape))
    if tensor.dim() == 4:
        u = u * np.sqrt(6.0 / tensor[0].numel())
    elif name.endswith("weight"):
        u = 1.0 + 0.3 * u
    elif name.endswith("running_var"):
        u = 1.0 + 0.5 * u
    else:
        u = 0.3 * u
    return torch.from_numpy(u.astype(np.float32)).double()


net = torchvision.models.resnet18(weights=None).double()
net.fc = torch.nn.Identity()
parameters = dict(net.named_parameters())
buffers = {name: b for name, b in net.named_buffers() if "running" in name}
with torch.no_grad():
    for stream, (name, tensor) in enumerate([*parameters.items(), *buffers.items()]):
        tensor.copy_(value(name, tensor, stream))
images = torch.from_numpy(noise(1000, IMAGES).astype(np.float32)).double()

golden = {}
with torch.no_grad():
    golden["eval.embedding"] = net.eval()(images)
embedding = net.train()(images)
golden["train.embedding"] = embedding.detach()
(embedding * torch.from_numpy(noise(1001, tuple(embedding.shape)).astype(np.float32))).sum().backward()
golden["norm"] = torch.stack([p.grad.norm() for p in parameters.values()])
for name, parameter in parameters.items():
    golden[f"first.{name}"] = parameter.grad.flatten()[:16]
golden["running"] = torch.stack([b.norm() for b in buffers.values()])
golden = {name: tensor.float().contiguous() for name, tensor in golden.items()}
save_file(golden, pathlib.Path(__file__).parent / "golden.safetensors")

"""Makes gradients.safetensors: what PyTorch's gradients are in float64, where one rounding can move them by over 0.5 %.

Run: python make.py TEST_DATA   (torch, torchvision, safetensors; TEST_DATA is what FAIRFACE_TEST_DATA names)

One rounding that puts an activation on the other side of a ReLU moves the first 2048 entries of a gradient by up to a
few per cent, so PyTorch in float32 disagrees with itself in float64: 1.19 % at layer3.5.conv1.weight. An engine that
agrees with either is right, and so is one that agrees with float64 but for a single activation that lies within
ROUNDING of zero there: those are looked for in the whole network, and each is put on its other side in turn.
tests/golden.rs accepts the tensors written here, and only these: `grad.first.NAME`, and `grad.first.NAME@N` with the
N-th of those activations on its other side.
"""
import pathlib
import sys

import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

data = pathlib.Path(sys.argv[1])
golden = load_file(data / "golden/fairface_golden.safetensors")
TASKS = {"age": 9, "gender": 2, "race": 7}
# Of a channel's root mean square: activations are sums of up to 4,608 products of float32.
ROUNDING = 1e-6
SIGNIFICANT = 0.005


class Relu(nn.Module):
    """A ReLU that knows which activations hardly chose their side, and puts one of them on the other."""

    near = []  # (call, place)
    other_side = None
    calls = 0

    def forward(self, x):
        call, Relu.calls = Relu.calls, Relu.calls + 1
        x = x.contiguous()
        passes = x > 0
        if Relu.other_side is None:
            rms = x.square().mean([dim for dim in range(x.dim()) if dim != 1], keepdim=True).sqrt()
            close = (x.abs() < ROUNDING * rms).flatten().nonzero().flatten()
            Relu.near += [(call, place.item()) for place in close]
        elif Relu.other_side[0] == call:
            passes.view(-1)[Relu.other_side[1]] ^= True
        return x * passes


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = torchvision.models.resnet34(weights=None)
        self.backbone.fc = nn.Identity()
        for module in list(self.backbone.modules()):
            if hasattr(module, "relu"):
                module.relu = Relu()
        self.shared = nn.Sequential(nn.Linear(512, 512), Relu())
        for task, classes in TASKS.items():
            setattr(self, f"{task}_head", nn.Linear(512, classes))

    def forward(self, images):
        z = self.shared(self.backbone(images))
        return {task: getattr(self, f"{task}_head")(z) for task in TASKS}


net = Net()
net.backbone.load_state_dict(load_file(data / "weights/resnet34-imagenet.safetensors"))
heads = {name: golden[name] for name in net.state_dict() if not name.startswith("backbone")}
net.load_state_dict(heads, strict=False)
# Normalised in float32, as the float32 network sees them.
images = golden["images_u8"].permute(0, 3, 1, 2).float() / 255
mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
images = (images - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
net = net.double().train()


def gradients(other_side=None):
    """The first 2048 entries of every gradient, with one activation on its other side."""
    Relu.calls, Relu.other_side = 0, other_side
    net.zero_grad()
    logits = net(images.double())
    sum(nn.functional.cross_entropy(logits[task], golden[f"target.{task}"]) for task in TASKS).backward()
    return {name: parameter.grad.flatten()[:2048].clone() for name, parameter in net.named_parameters()}


def off(found, expected):
    return ((found.double() - expected).norm() / expected.norm()).item()


truth = gradients()
written = {}
for name, first in truth.items():
    error = off(golden[f"grad.first.{name}"], first)
    if error > SIGNIFICANT:
        print(f"{name}: float32 is off by {100 * error:.2f} %")
        written[f"grad.first.{name}"] = first.float().contiguous()
print(f"{len(Relu.near)} activations within {ROUNDING} of their channel's root mean square of zero", flush=True)
for n, place in enumerate(Relu.near):
    for name, first in gradients(place).items():
        error = off(first, truth[name])
        if error > SIGNIFICANT:
            print(f"{name}: off by {100 * error:.2f} % with activation {place[1]} of ReLU {place[0]} on its other side")
            written[f"grad.first.{name}@{n}"] = first.float().contiguous()
save_file(written, pathlib.Path(__file__).parent / "gradients.safetensors")

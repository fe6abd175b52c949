"""Makes the ONNX files of this folder with PyTorch's own exporters.

    python make.py        # torch 2.15.0, torchvision, onnx 1.23.2, onnxscript 0.7.2

ResNet-18 with FairFace's 18 logits. Values follow the formulas of `value` below, which `onnx_import.rs` has too; they repeat
themselves, so that the files are small when they are compressed.
"""

import gzip
import pathlib
import tempfile

import torch
import torchvision


def value(kind, tensor, index):
    """The value at `index` (flat) of the tensor with number `tensor` of its kind: exact in f32."""
    if kind == "weight":
        return ((index + tensor) % 61 - 30) / 512
    channel = index
    return {
        "scale": 1 + channel // 64 % 5 / 8,
        "shift": ((channel + tensor) % 17 - 8) / 32,
        "mean": ((channel + 2 * tensor) % 13 - 6) / 64,
        "var": 0.5 + channel // 64 % 3 / 4,
        "bias": channel / 16,
    }[kind]


def fill(target, kind, tensor):
    values = [value(kind, tensor, i) for i in range(target.numel())]
    with torch.no_grad():
        target.copy_(torch.tensor(values).reshape(target.shape))


class Parts(torch.nn.Module):
    """FairFace's logits as race, gender and age."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        logits = self.net(images)
        return logits[:, :7], logits[:, 7:9], logits[:, 9:18]


net = torchvision.models.resnet18(weights=None)
net.fc = torch.nn.Linear(512, 18)
weights = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
for i, layer in enumerate(weights):
    fill(layer.weight, "weight", i)
fill(net.fc.bias, "bias", 0)
for i, norm in enumerate(m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
    for target, kind in [(norm.weight, "scale"), (norm.bias, "shift"), (norm.running_mean, "mean"), (norm.running_var, "var")]:
        fill(target, kind, i)
net.eval()

images = torch.zeros(1, 3, 224, 224)
with tempfile.TemporaryDirectory() as folder:
    path = str(pathlib.Path(folder) / "x.onnx")
    for name, network, options in [
        ("torchscript_folded", Parts(net).eval(), {"dynamo": False}),
        ("torchscript_norms", net, {"dynamo": False, "do_constant_folding": False, "training": torch.onnx.TrainingMode.PRESERVE}),
        ("dynamo", Parts(net).eval(), {"dynamo": True, "external_data": False}),
        ("dynamo_norms", net, {"dynamo": True, "external_data": False, "optimize": False}),
    ]:
        torch.onnx.export(network, (images,), path, **options)
        data = pathlib.Path(path).read_bytes()
        out = pathlib.Path(__file__).parent / f"{name}.onnx.gz"
        out.write_bytes(gzip.compress(data, 9, mtime=0))
        print(name, len(data), out.stat().st_size)

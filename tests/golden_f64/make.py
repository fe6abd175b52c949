"""Makes gradients.safetensors: PyTorch's gradients in float64 where its float32 ones are off by over 0.5 %.

Run: python make.py TEST_DATA   (torch, torchvision, safetensors; TEST_DATA is what FAIRFACE_TEST_DATA names)

One rounding that puts an activation on the other side of a ReLU moves the first 2048 entries of a gradient by up to a
few per cent, so PyTorch in float32 disagrees with itself in float64: 1.19 % at layer3.5.conv1.weight. An engine that
agrees with either is right; tests/golden.rs accepts both for the tensors written here, and only for these.
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


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = torchvision.models.resnet34(weights=None)
        self.backbone.fc = nn.Identity()
        self.shared = nn.Sequential(nn.Linear(512, 512), nn.ReLU())
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
logits = net(images.double())
sum(nn.functional.cross_entropy(logits[task], golden[f"target.{task}"]) for task in TASKS).backward()

truth = {}
for name, parameter in net.named_parameters():
    first = parameter.grad.flatten()[:2048]
    error = (golden[f"grad.first.{name}"].double() - first).norm() / first.norm()
    if error > 0.005:
        print(f"{name}: float32 is off by {100 * error:.2f} %")
        truth[f"grad.first.{name}"] = first.float().contiguous()
save_file(truth, pathlib.Path(__file__).parent / "gradients.safetensors")

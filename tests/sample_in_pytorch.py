"""The sample's training run as a PyTorch user would write it: what `cargo xtask train --init FILE` is compared with.

    python tests/sample_in_pytorch.py --weights resnet34-imagenet.safetensors [--epochs 5] [--seed 0]

The recipe is the project's default: AdamW 1e-4 (weight decay 0.01 on weights only), batch 32, dropout 0.3, flip and
jitter, sum of three cross-entropies. Prints a line of JSON an epoch with the accuracies on the validation and test
faces together.
"""

import argparse
import csv
import json
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

SAMPLE = Path(__file__).parent.parent / "data" / "sample"
TASKS = ("age", "gender", "race")
NORMALISE = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
TRAIN = transforms.Compose([
    transforms.RandomHorizontalFlip(),
    transforms.ColorJitter(0.15, 0.15, 0.15, 0.05),
    transforms.ToTensor(),
    NORMALISE,
])
EVAL = transforms.Compose([transforms.ToTensor(), NORMALISE])


def rows(split):
    with open(SAMPLE / "splits" / f"ff_{split}.csv", newline="") as file:
        return list(csv.DictReader(file))


class Faces(Dataset):
    def __init__(self, rows, classes, transform):
        self.rows, self.classes, self.transform = rows, classes, transform

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        row = self.rows[i]
        image = Image.open(SAMPLE / "images" / row["file"]).convert("RGB").resize((224, 224))
        return self.transform(image), torch.tensor([self.classes[t].index(row[t]) for t in TASKS])


class Net(nn.Module):
    def __init__(self, weights, classes):
        super().__init__()
        self.backbone = models.resnet34()
        self.backbone.load_state_dict(load_file(weights), strict=False)
        self.backbone.fc = nn.Identity()
        self.shared = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.3))
        self.heads = nn.ModuleList(nn.Linear(512, len(classes[t])) for t in TASKS)

    def forward(self, images):
        z = self.shared(self.backbone(images))
        return [head(z) for head in self.heads]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", required=True)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    train = rows("train")
    classes = {t: sorted({row[t] for row in train}) for t in TASKS}
    faces = DataLoader(Faces(train, classes, TRAIN), 32, shuffle=True, drop_last=True)
    held_out = DataLoader(Faces(rows("val") + rows("test"), classes, EVAL), 32)
    net = Net(args.weights, classes).to(memory_format=torch.channels_last)
    decay = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4)
    for epoch in range(1, args.epochs + 1):
        net.train()
        for images, targets in faces:
            logits = net(images.contiguous(memory_format=torch.channels_last))
            loss = sum(nn.functional.cross_entropy(l, targets[:, i]) for i, l in enumerate(logits))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        right = torch.zeros(3)
        with torch.no_grad():
            for images, targets in held_out:
                logits = net(images.contiguous(memory_format=torch.channels_last))
                right += torch.stack([(l.argmax(1) == targets[:, i]).sum() for i, l in enumerate(logits)])
        n = len(held_out.dataset)
        accuracy = {t: round(right[i].item() / n, 4) for i, t in enumerate(TASKS)}
        print(json.dumps({"epoch": epoch, "loss": loss.item(), "n": n, "accuracy": accuracy}), flush=True)


main()

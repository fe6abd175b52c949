#!/usr/bin/env python3
"""Epochs of torch's DataLoader over the same files: read, decode, augment, normalise, batch.

torchvision-v2: its own decoder and transforms on bytes, which is how it is fastest. torchvision-v1: OpenCV's decoder and
transforms on floats, as many a notebook has it. albumentations: OpenCV's decoder. A step is an epoch. README.md says how to
call it.
"""
import os

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for a newer version
import torch
from torch.utils.data import DataLoader, Dataset

from common import answer, arguments, median_ms

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# Strength of brightness, contrast and saturation, and of hue; whether images are turned, moved and scaled.
PRESETS = {"fastest": (None, None), "faster": (None, None), "fast": (0.15, 0.05), "balanced": (0.2, 0.1)}


def torchvision(preset, size, version):
    """`version`: torchvision's module of transforms."""
    strength, hue = PRESETS[preset]
    steps = [] if preset == "fastest" else [version.RandomHorizontalFlip()]
    if strength:
        steps += [version.ColorJitter(strength, strength, strength, hue)]
    if preset == "balanced":
        steps += [version.RandomRotation(10), version.RandomAffine(0, translate=(0.1, 0.1), scale=(0.9, 1.1))]
    return [version.Resize((size, size), antialias=True), *steps]


def torchvision_v2(preset, size):
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms import v2

    end = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, DEVIATION)]
    augment = v2.Compose([*torchvision(preset, size, v2), *end])
    return lambda path: augment(decode_image(path, ImageReadMode.RGB))


def torchvision_v1(preset, size):
    import torchvision.transforms as v1

    augment = v1.Compose([v1.ToTensor(), *torchvision(preset, size, v1), v1.Normalize(MEAN, DEVIATION)])
    return lambda path: augment(read(path))


def albumentations(preset, size):
    import albumentations as A

    strength, hue = PRESETS[preset]
    steps = [A.Resize(size, size)] + ([] if preset == "fastest" else [A.HorizontalFlip()])
    if strength:
        span = (1 - strength, 1 + strength)
        steps += [A.ColorJitter(span, span, span, (-hue, hue), p=1)]
    if preset == "balanced":
        steps += [A.Affine(rotate=(-10, 10), translate_percent=(-0.1, 0.1), scale=(0.9, 1.1), p=1)]
    augment = A.Compose([*steps, A.Normalize(MEAN, DEVIATION)])
    return lambda path: torch.from_numpy(augment(image=read(path))["image"].transpose(2, 0, 1).copy())


def read(path):
    """(H,W,3) RGB."""
    import cv2

    cv2.setNumThreads(1)
    return cv2.cvtColor(cv2.imread(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


SYSTEMS = {"torchvision-v2": torchvision_v2, "torchvision-v1": torchvision_v1, "albumentations": albumentations}


class Faces(Dataset):
    def __init__(self, paths, system, preset, size):
        self.paths, self.args, self.load = paths, (system, preset, size), None

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        if self.load is None:  # made in the worker: closures do not travel
            system, preset, size = self.args
            self.load = SYSTEMS[system](preset, size)
        return self.load(self.paths[i]), i


def main():
    args = arguments(
        __doc__,
        system=dict(choices=list(SYSTEMS)),
        augment=dict(choices=list(PRESETS)),
        files=dict(help="a text file with the path of an image a line"),
    )
    torch.set_num_threads(1)
    with open(args.files) as file:
        paths = file.read().splitlines()
    kept = dict(persistent_workers=True, prefetch_factor=4, drop_last=True)
    faces = Faces(paths, args.system, args.augment, args.image_size)
    loader = DataLoader(faces, args.batch_size, shuffle=True, num_workers=args.threads, **kept)

    def epoch():
        for _ in loader:
            pass

    answer(median_ms(epoch, 1, args.steps) / len(loader))


if __name__ == "__main__":
    main()

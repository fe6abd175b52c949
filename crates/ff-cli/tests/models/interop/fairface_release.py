"""Makes what FairFace released, with random values: python3 fairface_release.py FOLDER IMAGE...

Writes FOLDER/legacy.pt (as its own files from 2019 are), FOLDER/zip.pt (as torch.save writes today), and
FOLDER/expected.json: {image: {task: {label: probability}}} by the arithmetic of FairFace's predict.py.
"""

import json
import sys
from pathlib import Path

import torch
import torchvision
from PIL import Image
from torchvision import transforms

RACES = ["White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern"]
GENDERS = ["Male", "Female"]
AGES = ["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"]

folder, images = Path(sys.argv[1]), sys.argv[2:]
torch.manual_seed(0)
model = torchvision.models.resnet34(weights=None)
model.fc = torch.nn.Linear(model.fc.in_features, 18)
prepare = transforms.Compose(
    [
        transforms.Resize((224, 224)),
        transforms.ToTensor(),
        transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ]
)
batch = torch.stack([prepare(Image.open(image).convert("RGB")) for image in images])
model.train()(batch)  # running statistics of their own
state = model.state_dict()
torch.save(state, folder / "legacy.pt", _use_new_zipfile_serialization=False)
torch.save(state, folder / "zip.pt")

expected = {}
with torch.no_grad():
    for image, outputs in zip(images, model.eval()(batch)):
        scores = {"race": outputs[:7], "gender": outputs[7:9], "age": outputs[9:18]}
        names = {"race": RACES, "gender": GENDERS, "age": AGES}
        expected[image] = {
            task: dict(zip(names[task], torch.softmax(scores[task], 0).tolist())) for task in scores
        }
(folder / "expected.json").write_text(json.dumps(expected))

"""Runs the guide's snippet on a model: python3 load_in_pytorch.py GUIDE MODEL.safetensors FOLDER IMAGE...

Writes FOLDER/expected.json, {image: {task: {label: logit}}}; and FOLDER/back.safetensors and FOLDER/back.pth, the same
model after PyTorch doubled the gender head: what somebody who trained it further would save.
"""

import json
import re
import sys
from pathlib import Path

import torch
from PIL import Image
from torchvision import transforms

guide, weights, folder, images = sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:]
blocks = re.findall(r"```python\n(.*?)```", Path(guide).read_text(), re.DOTALL)
(snippet,) = [block for block in blocks if "class FaceModel" in block]
names = {}
exec(snippet.replace("model.safetensors", weights), names)
model, labels = names["model"], names["labels"]

prepare = transforms.Compose(
    [
        transforms.Resize((224, 224)),
        transforms.ToTensor(),
        transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ]
)
expected = {}
with torch.no_grad():
    for image in images:
        logits = model(prepare(Image.open(image).convert("RGB"))[None])
        expected[image] = {task: dict(zip(labels[task], logits[task][0].tolist())) for task in labels}
    model.gender_head.weight *= 2
    model.gender_head.bias *= 2
(folder / "expected.json").write_text(json.dumps(expected))
names["save_file"](model.state_dict(), folder / "back.safetensors", {"labels": json.dumps(labels)})
torch.save(model.state_dict(), folder / "back.pth")

"""Checks ONNX files and runs them: python3 run_onnx.py OUT.json MODEL.onnx... -- IMAGE...

OUT.json is {model: {image: {task: {label: value}}}}. Images go through in batches of two, so that the batch is really open.
"""

import json
import sys

import numpy as np
import onnx
import onnxruntime
from PIL import Image

at = sys.argv.index("--")
out, models, images = sys.argv[1], sys.argv[2:at], sys.argv[at + 1 :]
pixels = np.stack([np.asarray(Image.open(image).convert("RGB").resize((224, 224))) for image in images])
mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
normalised = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)

results = {}
for model in models:
    onnx.checker.check_model(model, full_check=True)
    assert onnx.load(model, load_external_data=False).opset_import[0].version >= 17
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
    tasks = [output.name for output in session.get_outputs()]
    # A task of which there is more to say has an object.
    labels = {task: value if isinstance(value, list) else value["labels"] for task, value in labels.items()}
    assert tasks == list(labels), tasks
    feed = pixels if session.get_inputs()[0].type == "tensor(uint8)" else normalised
    rows = [session.run(None, {"images": feed[i : i + 2]}) for i in range(0, len(feed), 2)]
    values = {task: np.concatenate([row[i] for row in rows]) for i, task in enumerate(tasks)}
    results[model] = {
        image: {task: dict(zip(labels[task], values[task][i].tolist())) for task in tasks}
        for i, image in enumerate(images)
    }
with open(out, "w") as file:
    json.dump(results, file)

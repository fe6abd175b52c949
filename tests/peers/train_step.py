#!/usr/bin/env python3
"""A training step on a CPU in PyTorch: forward, the sum of the tasks' cross-entropies, backward, fused AdamW.

bf16 is autocast, with weights, optimiser and loss in float32. README.md says how to call it.
"""
import os

import torch

from common import answer, arguments, images, median_ms, torch_model

ARGS = arguments(
    __doc__,
    layout=dict(choices=["contiguous", "channels_last"]),
    precision=dict(choices=["f32", "bf16"]),
    model=dict(help="a folder with model.safetensors"),
)
LAYOUT = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[ARGS.layout]

torch.set_num_threads(ARGS.threads)
model = torch_model(os.path.join(ARGS.model, "model.safetensors")).train().to(memory_format=LAYOUT)
batch = torch.from_numpy(images(ARGS.batch_size, ARGS.image_size)).to(memory_format=LAYOUT)
classes = [getattr(model, head).out_features for head in model.heads]
targets = [torch.arange(ARGS.batch_size) % n for n in classes]
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
cross_entropy = torch.nn.CrossEntropyLoss()


def step():
    with torch.autocast("cpu", torch.bfloat16, enabled=ARGS.precision == "bf16"):
        logits = model(batch)
    loss = sum(cross_entropy(of_task.float(), target) for of_task, target in zip(logits, targets))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


answer(median_ms(step, 2, ARGS.steps))

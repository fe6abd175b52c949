"""Prints the numbers that the tests in src/losses and src/schedule.rs expect, from PyTorch."""

import numpy as np
import torch
from torch.nn.functional import cross_entropy, log_softmax, softmax

LOGITS = torch.tensor([[2.0, -1.0, 0.5, 0.0], [0.3, 0.2, -0.1, 1.5], [-2.0, 0.0, 1.0, 0.7]])
LABELS = torch.tensor([0, 2, 3])
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 1.5])

counts = np.array([10, 200, 3000])
print("inverse", counts.sum() / (3 * counts))
effective = (1 - 0.999) / (1 - 0.999**counts)
print("effective", list(effective * 3 / effective.sum()))

for weights in (torch.ones(4), WEIGHTS):
    for smoothing in (0.0, 0.1):
        print("cross entropy", cross_entropy(LOGITS, LABELS, weights, label_smoothing=smoothing).item())

ranks = torch.tensor([2.0, 0.0, 1.0, 3.0])
targets = softmax(-(ranks[LABELS][:, None] - ranks[None, :]).abs(), dim=1)
print("ordinal", -(targets * log_softmax(LOGITS, dim=1)).sum(1).mean().item())

s = torch.zeros(3, dtype=torch.float64, requires_grad=True)
adam = torch.optim.Adam([s], lr=0.1)
for losses in ([2.0, 0.6, 0.4], [1.5, 0.3, 0.7]):
    adam.zero_grad()
    ((-s).exp() * torch.tensor(losses, dtype=torch.float64) + s / 2).sum().backward()
    adam.step()
print("uncertainty", [f"{x:.10f}" for x in s.tolist()])


def rates(make, steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, StepLR

print("cosine", rates(lambda o: CosineAnnealingLR(o, 8, eta_min=0.1), 8))
print("one cycle", rates(lambda o: OneCycleLR(o, 1.0, total_steps=10, pct_start=0.3), 10))
print("step", rates(lambda o: StepLR(o, 3, gamma=0.5), 8))

from torch.nn.functional import kl_div

taught = torch.tensor([[1.0, 0.0, 0.5, -1.0], [0.3, 0.2, -0.1, 1.5], [0.0, -1.0, 3.0, 0.5]])
for temperature in (1.0, 4.0):
    own = LOGITS.clone().requires_grad_()
    soft = kl_div(log_softmax(own / temperature, 1), softmax(taught / temperature, 1), reduction="batchmean")
    (soft * temperature**2).backward()
    print("distillation", temperature, (soft * temperature**2).item(), own.grad[0].tolist())

# https://github.com/kohpangwei/group_DRO loss.py, compute_robust_loss; a group that is not in a batch loses 0 there.
q = np.ones(3) / 3
for losses in ([1.0, 0.2, 0.0], [0.5, 2.0, 0.1]):
    q = q * np.exp(0.5 * np.array(losses))
    q = q / q.sum()
print("group DRO", [f"{x:.10f}" for x in q])

table = np.array([[2, 1], [0, 2]])  # groups by labels
n = table.sum()
with np.errstate(divide="ignore"):
    print("reweighing", (table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / n / table).tolist())

"""Prints the expected numbers of src/optim.rs's tests. Run: python optim_golden.py   (needs torch)"""
import torch

GRADS = [[0.1, -0.2, 0.3], [-0.3, 0.1, 0.2]]


def after_two(make, max_norm=None):
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    opt = make([p])
    for g in GRADS:
        p.grad = torch.tensor(g)
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_([p], max_norm)
        opt.step()
    return p.tolist()


print("ADAMW_AFTER_TWO", after_two(lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.01)))
for nesterov in (False, True):
    sgd = lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=nesterov)
    print("NESTEROV_AFTER_TWO" if nesterov else "SGD_AFTER_TWO", after_two(sgd))
print("CLIPPED_SGD_AFTER_TWO", after_two(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01), 0.2))

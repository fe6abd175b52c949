"""Makes the small state dicts that tests/state_dicts.rs reads: python3 make.py (with torch; written with 2.15)."""

from collections import OrderedDict
from pathlib import Path

import torch

here = Path(__file__).parent
base = torch.arange(12, dtype=torch.float32)
tensors = OrderedDict(
    [
        ("module.a.weight", base.reshape(3, 4) / 8),
        ("module.a.bias", base[2:5]),  # a view into the same storage, from its third element on
        ("module.b.weight", torch.tensor([1.5, -2.0], dtype=torch.float16)),
        ("module.n", torch.tensor(7)),  # a BatchNorm's num_batches_tracked is such a scalar
    ]
)
legacy = {"_use_new_zipfile_serialization": False}
torch.save(tensors, here / "zip.pth")
torch.save(tensors, here / "legacy.pth", **legacy)
nested = {"epoch": 3, "state_dict": tensors}
torch.save(nested, here / "nested_zip.pth")
torch.save(nested, here / "nested_legacy.pth", **legacy)
torch.save(torch.nn.Linear(2, 2), here / "module.pth")


class Old:
    """A tensor as PyTorch before 0.4 pickled it."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        t = self.tensor
        args = (t._typed_storage(), t.storage_offset(), tuple(t.size()), t.stride())
        return torch._utils._rebuild_tensor, args


torch.save(OrderedDict((name, Old(t)) for name, t in tensors.items()), here / "older.pth", **legacy)


class Evil:
    def __reduce__(self):
        return (open, ("fairface-was-here", "w"))


torch.save({"a.weight": base, "evil": Evil()}, here / "evil.pth")

"""Reproducible random tensors for tests."""

from __future__ import annotations

import torch
from torch import Tensor


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """N(0,1) numbers on the default device, the same in each dtype up to rounding and on each device."""
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, device="cpu")
    return values.to(torch.get_default_device(), dtype)


def nondeterminism() -> float:
    """How much two runs of a float64 gradient may differ: by rounding on GPUs, where sums may be atomic additions."""
    return 0.0 if torch.get_default_device().type == "cpu" else 1e-9

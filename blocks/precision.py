"""Where low precision would spoil a statistic, and how wide to compute it."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """`x` wide enough for sums over many values; float64 stays float64, so exact tests stay exact."""
    return x.to(torch.promote_types(x.dtype, torch.float32))

"""Where low precision would spoil a statistic, and how wide to compute it."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """`x` wide enough for sums over many values; float64 stays float64, so exact tests stay exact."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def no_autocast(x: Tensor) -> AbstractContextManager[object]:
    """While open, nothing on `x`'s device is computed in the low precision of an autocast around it.

    For what costs little and is felt everywhere, such as styles; inputs have to be brought to the weights' dtype.
    """
    exact: AbstractContextManager[object] = torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False)
    return exact

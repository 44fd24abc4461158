"""Full precision for single computations inside mixed-precision code."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """`x` as float32, for sums over many values; float64 stays float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def to_autocast_dtype(x: Tensor) -> Tensor:
    """`x` in the dtype of autocast where that is enabled; a layer that begins so keeps its maps in 16 bits."""
    device = "cpu" if x.is_meta else x.device.type
    if not torch.is_autocast_enabled(device) or not x.is_floating_point() or x.dtype == torch.float64:
        return x
    return x.to(torch.get_autocast_dtype(device))


def no_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Disable autocast on the device of `x`.

    For computations that cost little and whose rounding errors are visible, such as styles. The caller casts the inputs
    to the dtype of the weights.
    """
    disabled: AbstractContextManager[object] = torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False)
    return disabled

"""Mixed precision: matrix products and convolutions in half the bits, the rest as it is.

Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from ganblocks.errors import RunError

Precision = Literal["no", "bf16", "fp16"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def mixed(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """While open, networks on the device compute so.

    Raises:
        RunError: The precision needs a GPU.
    """
    refuse_on_cpu(precision, on_cpu=device.type == "cpu")
    half: AbstractContextManager[object] = nullcontext()
    if precision != "no":
        half = torch.autocast(device.type, DTYPES[precision])
    return half


def refuse_on_cpu(precision: Precision, *, on_cpu: bool) -> None:
    """Float16 is for GPUs: processors compute it slower than float32, and not everything.

    Raises:
        RunError: It is asked for on a CPU.
    """
    if precision == "fp16" and on_cpu:
        raise RunError("fp16 needs a GPU; take precision bf16 or no on the CPU")

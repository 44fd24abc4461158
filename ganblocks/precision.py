"""Mixed precision: matrix products and convolutions in 16 bits, everything else in float32.

Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

from ganblocks.errors import RunError

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES = {"bf16": "bfloat16", "fp16": "float16"}


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A context in which networks on the device compute in that precision.

    Raises:
        RunError: The precision needs a GPU.
    """
    import torch  # here, because it takes seconds, and the command line needs only `Precision`

    refuse_fp16_on_cpu(precision, on_cpu=device.type == "cpu")
    if precision == "fp32":
        return nullcontext()
    context: AbstractContextManager[object] = torch.autocast(device.type, getattr(torch, DTYPES[precision]))
    return context


def refuse_fp16_on_cpu(precision: Precision, *, on_cpu: bool) -> None:
    """CPUs compute float16 more slowly than float32, and lack some of its operations.

    Raises:
        RunError: The precision is fp16 and the device is a CPU.
    """
    if precision == "fp16" and on_cpu:
        raise RunError("fp16 needs a GPU; choose precision bf16 or fp32 on a CPU")

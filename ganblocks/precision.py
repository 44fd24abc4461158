"""Precision of matrix products and convolutions: float32, TensorFloat-32, or 16 bits with everything else in float32.

Mixed precision: Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740. TensorFloat-32 (TF32) rounds the factors of
float32 products to 10 bits of mantissa, https://docs.pytorch.org/docs/stable/notes/cuda.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Literal, get_args

from ganblocks.errors import RunError, UsageError

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
DTYPES = {"bf16": "bfloat16", "fp16": "float16"}


def default_precision(device_type: str) -> Precision:
    """The precision of a training that names none: tf32 on CUDA, fp32 on other devices."""
    return "tf32" if device_type == "cuda" else "fp32"


@contextmanager
def apply_precision(precision: Precision, device: torch.device) -> Iterator[None]:
    """A context in which networks on the device compute in that precision; all settings are restored at its end.

    `fp32` computes products and convolutions in full float32, `tf32` in TF32. On devices other than CUDA both are
    float32. `bf16` and `fp16` compute them in 16 bits, and what autocast leaves in float32 in full float32.

    Raises:
        UsageError: There is no such precision.
        RunError: The precision needs a GPU.
    """
    refuse_fp16_on_cpu(precision, on_cpu=device.type == "cpu")
    with tf32(precision == "tf32", device), autocast(precision, device):
        yield


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A context in which forward passes on the device run in 16 bits if the precision is `bf16` or `fp16`.

    Raises:
        UsageError: There is no such precision.
        RunError: The precision needs a GPU.
    """
    if precision not in get_args(Precision):
        raise UsageError(f"precision {precision!r}: unknown; valid: {', '.join(get_args(Precision))}")
    import torch  # here, because it takes seconds, and the command line needs only `Precision`

    refuse_fp16_on_cpu(precision, on_cpu=device.type == "cpu")
    if precision not in DTYPES:
        return nullcontext()
    context: AbstractContextManager[object] = torch.autocast(device.type, getattr(torch, DTYPES[precision]))
    return context


def tf32(enabled: bool, device: torch.device) -> AbstractContextManager[None]:
    """A context that turns TF32 on or off in matrix products and convolutions; without effect outside CUDA.

    Backward passes run in the setting in which they are computed, not in that of their forward pass.
    """
    from assemblies.inference.precision import tf32 as switch  # here, because it imports torch

    return switch(enabled, device)


def refuse_fp16_on_cpu(precision: Precision, *, on_cpu: bool) -> None:
    """CPUs compute float16 more slowly than float32, and lack some of its operations.

    Raises:
        RunError: The precision is fp16 and the device is a CPU.
    """
    if precision == "fp16" and on_cpu:
        raise RunError("fp16 needs a GPU; choose precision bf16 or fp32 on a CPU")

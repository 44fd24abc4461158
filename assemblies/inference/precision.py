"""Precision of matrix products and convolutions: 16 bits, or float32 with or without TensorFloat-32 (TF32).

TF32 rounds the factors of products to 10 bits of mantissa, https://docs.pytorch.org/docs/stable/notes/cuda.html.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Literal, NamedTuple

import torch

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def computing_in(precision: Precision, device: torch.device | None) -> Iterator[None]:
    """Matrix products and convolutions in a precision; fp32 is float32 without TF32."""
    device = torch.device("cpu") if device is None else device
    low = torch.autocast(device.type, DTYPES[precision], cache_enabled=False) if precision in DTYPES else nullcontext()
    with tf32(precision == "tf32", device), low:
        yield


@contextmanager
def tf32(enabled: bool, device: torch.device) -> Iterator[None]:
    """A context that turns TF32 on or off in matrix products and convolutions; without effect outside CUDA.

    Backward passes run in the setting in which they are computed, not in that of their forward pass.
    """
    if device.type != "cuda":
        yield
        return
    before = _float32_settings()
    _set_float32(Float32Settings("high" if enabled else "highest", enabled, ("tf32" if enabled else "ieee",) * 3))
    try:
        yield
    finally:
        _set_float32(before)


class Float32Settings(NamedTuple):
    """PyTorch's two sets of switches for float32 products; None for the older ones if the newer contradict them.

    Reading an older switch is an error while the newer contradict it, and inductor reads it. So both sets are set.
    """

    matmul: str | None
    cudnn: bool | None
    newer: tuple[str, ...]


def _newer_switches() -> tuple[Any, ...]:
    backends: Any = torch.backends
    return backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul


def _float32_settings() -> Float32Settings:
    older: tuple[str | None, bool | None] = None, None
    with warnings.catch_warnings(action="ignore"):  # the older switches are deprecated
        with suppress(RuntimeError):
            older = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    return Float32Settings(*older, tuple(each.fp32_precision for each in _newer_switches()))


def _set_float32(settings: Float32Settings) -> None:
    with warnings.catch_warnings(action="ignore"):
        if settings.matmul is not None:
            torch.set_float32_matmul_precision(settings.matmul)
        if settings.cudnn is not None:
            torch.backends.cudnn.allow_tf32 = settings.cudnn
    for switch, value in zip(_newer_switches(), settings.newer, strict=False):
        switch.fp32_precision = value

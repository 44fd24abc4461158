"""Neighborhood attention by natten's fused kernels, for CUDA: https://github.com/SHI-Labs/NATTEN, from 0.21 on.

Faster neighborhood attention, Hassani et al. 2024, https://arxiv.org/abs/2403.04690.

What natten can do depends on how it was built, so that it is tried and not asked for its version.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from registry import Kernel, RegisterKernel, hookimpl

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
WHEELS = "pip install natten -f https://whl.natten.org"
MISSING = "natten is not installed (its fused kernels need a CUDA device)"


class Natten(Kernel):
    """natten.na2d; its gradient cannot be differentiated again."""

    op, name, priority = "neighborhood_attention", "natten", 50
    library, enable = "natten", "pip install natten -f https://whl.natten.org"
    device = "cuda"

    na2d: Callable[..., Any]

    def __init__(self) -> None:
        self._found: list[str | None] = []

    def unavailable(self) -> str | None:
        if not self._found:  # looked for once in a process
            self._found.append(self._probe())
        return self._found[0]

    def _probe(self) -> str | None:
        try:
            natten = import_module("natten")
            self.na2d = natten.na2d
        except ModuleNotFoundError as error:
            return MISSING if error.name == "natten" else f"natten cannot be imported: {error}"
        except Exception as error:  # a library built for another torch fails in many ways
            return f"natten cannot be imported: {type(error).__name__}: {error}"
        if not getattr(natten, "HAS_LIBNATTEN", True):
            return f"this natten came without its compiled library, which {WHEELS} brings"
        if self.device == "cuda" and not torch.cuda.is_available():
            return "natten's fused kernels need a CUDA device, and there is none"
        try:
            q = torch.zeros(1, 4, 4, 1, 32, device=self.device, requires_grad=True)
            self.na2d(q, q, q, kernel_size=3).sum().backward()
        except Exception as error:
            return f"natten does not run here: {type(error).__name__}: {error}"
        return None

    def unsupported(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        kernel_size: int,
        dilation: int = 1,
        bias: Tensor | None = None,
        scale: float | None = None,
    ) -> list[str]:
        reasons = []
        if q.device.type != self.device:
            reasons.append(f"computes on {self.device}, not on {q.device.type}")
        if bias is not None:
            reasons.append("takes no position bias")
        if not (q.dtype == k.dtype == v.dtype and q.dtype in DTYPES):
            reasons.append(f"takes float16, bfloat16 or float32, and one of them, not {q.dtype}, {k.dtype}, {v.dtype}")
        if q.shape[-1] % 8 or v.shape[-1] != q.shape[-1]:
            reasons.append(f"takes one head size that 8 divides, not {q.shape[-1]} and {v.shape[-1]}")
        if kernel_size < 2:
            reasons.append("takes windows of 2 pixels or more")
        if scale == 0:
            reasons.append("takes a scale of zero for none")
        if torch.are_deterministic_algorithms_enabled():
            reasons.append("is not deterministic in all its gradients")
        return reasons

    def run(
        self,
        q: Float[Tensor, "b h w n d"],
        k: Float[Tensor, "b h w n d"],
        v: Float[Tensor, "b h w n d"],
        *,
        kernel_size: int,
        dilation: int = 1,
        bias: Float[Tensor, "n r r"] | None = None,
        scale: float | None = None,
    ) -> Float[Tensor, "b h w n d"]:
        assert bias is None, "natten takes no position bias"
        y: Tensor = self.na2d(q, k, v, kernel_size=kernel_size, dilation=dilation, scale=scale)
        return y


@hookimpl
def register_kernels(register: RegisterKernel) -> None:
    register(Natten())

"""Attention by cuDNN, which compiles a kernel for each shape.

https://docs.nvidia.com/deeplearning/cudnn/frontend/latest/operations/Attention.html
"""

from __future__ import annotations

import torch
from torch import Tensor

from blocks.ops.attention.fused import Fused, few_keys

HOPPER = 9  # major compute capability
MULTIPLE = 8  # of channels
LARGEST_HEAD = 128
OLDEST = 91501  # earlier releases are wrong for sequences that 128 does not divide


class Cudnn(Fused):
    """SDPA's cuDNN attention: half precision; a bias without gradient."""

    name, priority = "cudnn", 30
    operator = torch.ops.aten._scaled_dot_product_cudnn_attention

    def unavailable(self) -> str | None:
        if reason := super().unavailable():
            return reason
        version: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        if version is None or version < OLDEST:
            return f"needs cuDNN {OLDEST} or later, and torch has {version}"
        return None

    def unsupported(
        self, q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None, scale: float | None = None
    ) -> list[str]:
        reasons = super().unsupported(q, k, v, bias=bias, scale=scale)
        largest = max(q.shape[-1], v.shape[-1])
        if q.shape[-1] % MULTIPLE or v.shape[-1] % MULTIPLE or largest > LARGEST_HEAD:
            sizes = f"{q.shape[-1]} and {v.shape[-1]}"
            reasons.append(f"needs head sizes that are multiples of {MULTIPLE} up to {LARGEST_HEAD}, not {sizes}")
        if k.shape[-2] < 2:
            reasons.append("needs two keys or more")
        gradients = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
        if bias is not None and bias.requires_grad and torch.is_grad_enabled():
            reasons.append("computes no gradient of the bias")
        if gradients and torch.are_deterministic_algorithms_enabled():
            reasons.append("its gradients are not deterministic")
        return reasons

    def drawbacks(self, q: Tensor, k: Tensor, v: Tensor, **_: object) -> list[str]:
        if torch.cuda.get_device_properties(q.device).major < HOPPER:
            return [f"'flash' is faster on devices before compute capability {HOPPER}.0"]
        return few_keys(k)

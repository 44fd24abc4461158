"""Example kernel: attention by a loop over heads, which needs memory for the weights of one head only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from registry import Kernel


class ExampleKernel(Kernel):
    """Computes one head after the other.

    Its priority is below that of the reference kernel, so that it runs only where it is named: `kernel: example`. Raise
    it when the kernel is faster. `unavailable` says why this machine cannot run it, `unsupported` why a call cannot.
    """

    op, name, priority = "attention", "example", -1
    second_order, forward_ad = True, True

    def unsupported(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, **options: Any) -> list[str]:
        return ["takes no position bias"] if bias is not None else []

    def run(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, *, scale: float | None = None) -> Tensor:
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        heads = zip(q.unbind(1), k.unbind(1), v.unbind(1), strict=True)
        return torch.stack([(q @ k.mT * scale).softmax(-1) @ v for q, k, v in heads], dim=1)

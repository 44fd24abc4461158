"""Memory-efficient attention: a running softmax over blocks of keys, also with a bias and in float32.

Rabe and Staats 2021, https://arxiv.org/abs/2112.05682.
"""

from __future__ import annotations

import torch
from torch import Tensor

from blocks.ops.attention.fused import ALIGNMENT, HALF, Fused, misaligned

TILE = 64  # queries of a thread block in the forward pass, and keys in the backward pass
LONG = 256  # keys from which on a thread block's loop is long
LARGEST_WEIGHTS = 2**25  # number of attention weights that a kernel of matrix products may keep
FORWARD_SHARE = 0.6  # of the multiprocessors that a forward pass should occupy; a backward pass should occupy all


class Efficient(Fused):
    """SDPA's memory-efficient attention on CUDA, with the gradient of the bias."""

    name, priority = "efficient", 20
    dtypes = (*HALF, torch.float32)
    capability = (5, 0)
    operator = torch.ops.aten._scaled_dot_product_efficient_attention

    def unsupported(
        self, q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None, scale: float | None = None
    ) -> list[str]:
        reasons = super().unsupported(q, k, v, bias=bias, scale=scale)
        multiple = ALIGNMENT // q.element_size()
        if q.shape[-1] % multiple or v.shape[-1] % multiple:
            reasons.append(f"needs head sizes that are multiples of {multiple}, not {q.shape[-1]} and {v.shape[-1]}")
        elif misaligned(q) or misaligned(k) or misaligned(v):
            reasons.append(f"needs rows of q, k and v that start at multiples of {ALIGNMENT} bytes")
        return reasons

    def drawbacks(
        self, q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None, scale: float | None = None
    ) -> list[str]:
        matrices, (queries, keys) = q.shape[0] * q.shape[1], (q.shape[-2], k.shape[-2])
        if q.dtype in HALF or keys < LONG or torch.compiler.is_exporting():  # exported programs take any batch
            return []
        if matrices * queries * keys > LARGEST_WEIGHTS:
            return []
        gradients = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
        blocks = matrices * -(-(min(queries, keys) if gradients else queries) // TILE)
        processors = torch.cuda.get_device_properties(q.device).multi_processor_count
        if blocks >= processors * (1 if gradients else FORWARD_SHARE):
            return []
        return [f"its {blocks} thread blocks do not occupy {processors} multiprocessors, and matrix products do"]

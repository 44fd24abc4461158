"""Attention by PyTorch's scaled_dot_product_attention."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from registry import Kernel


def one_dtype(q: Tensor, k: Tensor, v: Tensor) -> list[str]:
    """The reason against tensors of several dtypes, if there is one."""
    if q.dtype == k.dtype == v.dtype:
        return []
    return [f"q, k and v should have one dtype, not {q.dtype}, {k.dtype} and {v.dtype}"]


class Sdpa(Kernel):
    """PyTorch's scaled_dot_product_attention by the back end that PyTorch chooses; no second derivative.

    On CUDA the back ends `flash`, `cudnn` and `efficient` are kernels of their own, with a higher priority.
    """

    op, name, priority = "attention", "sdpa", 10

    def unsupported(
        self, q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None, scale: float | None = None
    ) -> list[str]:
        return one_dtype(q, k, v)

    def drawbacks(self, q: Tensor, k: Tensor, v: Tensor, **_: object) -> list[str]:
        return ["on CUDA its back ends are kernels of their own"] if q.is_cuda else []

    def run(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h m d"],
        v: Float[Tensor, "b h m e"],
        *,
        bias: Float[Tensor, "*#h #n #m"] | None = None,
        scale: float | None = None,
    ) -> Float[Tensor, "b h n e"]:
        if bias is not None:
            bias = bias.to(q.dtype)
            bias = bias[None] if bias.ndim == 3 else bias  # the fused kernels take masks of two or four axes
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)

"""What the kernels share that compute squared distances by dot-product attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from blocks.ops.attention import attention
from registry import Kernel


class DotProduct(Kernel):
    """Base of the kernels that call the op `attention`, by whichever of its kernels can serve."""

    op, forward_ad = "l2_attention", True  # by the kernels of attention that have it

    attend: Callable[..., Any] = attention

    def unavailable(self) -> str | None:
        self.attend = attention.bind()  # called when a block is built: kernels are looked up then, not in forward
        return None

    def unsupported(
        self, q: Tensor, k: Tensor, v: Tensor, *, squared: bool = True, key_norms: Tensor | None = None, **_: object
    ) -> list[str]:
        reasons = [] if squared else ["only squared distances are sums of products"]
        if not q.dtype == k.dtype == v.dtype:
            reasons.append(f"q, k and v should have one dtype, not {q.dtype}, {k.dtype} and {v.dtype}")
        return reasons

"""Memory layouts of feature maps, and style vectors by number."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def to_nhwc(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w c"]:
    """View of a feature map for attention and norms; contiguous if `x` is in channels-last memory."""
    return x.permute(0, 2, 3, 1)


def to_nchw(x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b c h w"]:
    """Inverse view of `to_nhwc`."""
    return x.permute(0, 3, 1, 2)


def rows(num: int, ws: Float[Tensor, "b n s"] | None) -> tuple[Tensor | None, ...]:
    """The first `num` vectors of `ws` [B,n,S], or `num` times None."""
    return (None,) * num if ws is None else torch.unbind(ws[:, :num], dim=1)

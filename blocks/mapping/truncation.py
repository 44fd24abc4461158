"""The tracked mean of the styles, and drawing styles towards it.

StyleGAN, Karras et al. 2019, https://arxiv.org/abs/1812.04958, appendix B: the truncation trick in W.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


@torch.no_grad()
def follow(w_avg: Float[Tensor, " s"], w: Float[Tensor, "b s"], beta: float) -> None:
    """Move the tracked mean, in place, towards the mean of a batch; `beta` is the share of it that stays."""
    w_avg.lerp_(w.mean(dim=0).to(w_avg.dtype), 1 - beta)


def truncate(
    ws: Float[Tensor, "b n s"], w_avg: Float[Tensor, " s"], psi: float, cutoff: int | None
) -> Float[Tensor, "b n s"]:
    """The first `cutoff` styles, or all if None, drawn towards the mean: psi 1 leaves them, 0 gives the mean."""
    if psi == 1:
        return ws
    truncated = w_avg + psi * (ws - w_avg)
    return truncated if cutoff is None else torch.cat([truncated[:, :cutoff], ws[:, cutoff:]], dim=1)

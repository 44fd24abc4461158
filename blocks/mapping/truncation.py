"""The running mean of the styles, and the truncation trick.

StyleGAN, Karras et al. 2019, https://arxiv.org/abs/1812.04948, appendix B: the truncation trick in W.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.common.recompute import is_recomputing


@torch.no_grad()
def update_mean(w_avg: Float[Tensor, " s"], w: Float[Tensor, "b s"], beta: float) -> None:
    """Updates the running mean in place: w_avg = beta w_avg + (1 - beta) mean(w).

    An empty batch changes nothing, nor does a pass that activation checkpointing recomputes.
    """
    if w.shape[0] and not is_recomputing():
        w_avg.lerp_(w.mean(dim=0).to(w_avg.dtype), 1 - beta)


def truncate(
    ws: Float[Tensor, "b n s"], w_avg: Float[Tensor, " s"], psi: float, cutoff: int | None
) -> Float[Tensor, "b n s"]:
    """w_avg + psi (ws - w_avg) for the first `cutoff` styles, or for all if None; the others are unchanged."""
    if psi == 1:
        return ws
    truncated = w_avg + psi * (ws - w_avg)
    return truncated if cutoff is None else torch.cat([truncated[:, :cutoff], ws[:, cutoff:]], dim=1)

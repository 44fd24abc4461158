"""Spectral normalisation: weights of largest singular value one, so that each map is Lipschitz with constant one.

Miyato et al. 2018, https://arxiv.org/abs/1802.05957, algorithm 1.
"""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from blocks.families import WeightNorm

EPS = 1e-12


class SpectralNorm(WeightNorm, kind="spectral-norm"):
    """The weight over its largest singular value, tracked by one power iteration per forward pass in training.

    The weight is seen as the matrix W [O, rest], sigma = u . W v. In training first v <- W^T u / |W^T u|, then
    u <- W v / |W v|; evaluation takes u and v as they are. For the gradient both are constants. (The parametrisation
    that torch has iterates in the other order.)

    Args:
        weight: The weight at the start.
        eps: Smallest length that a vector is divided by.
    """

    sets_scale = True
    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, *, eps: Annotated[float, Field(gt=0)] = EPS) -> None:
        super().__init__()
        self.eps = eps
        u, v = settled(weight.detach().flatten(1))
        self.register_buffer("u", u)
        self.register_buffer("v", v)

    def forward(self, weight: Float[Tensor, "o ..."]) -> Float[Tensor, "o ..."]:
        matrix = weight.flatten(1)
        u, v = self.u, self.v
        if self.training:
            with torch.no_grad():
                u, v = power_iteration(matrix, u, self.eps)
                self.u.copy_(u)
                self.v.copy_(v)
        return weight / (u @ (matrix @ v))


def power_iteration(matrix: Float[Tensor, "o i"], u: Float[Tensor, " o"], eps: float = EPS) -> tuple[Tensor, Tensor]:
    """One step towards the singular vectors u [o] and v [i] of the largest singular value, v first."""
    v = F.normalize(matrix.mT @ u, dim=0, eps=eps)
    return F.normalize(matrix @ v, dim=0, eps=eps), v


def settled(matrix: Float[Tensor, "o i"], iterations: int = 8) -> tuple[Tensor, Tensor]:
    """Vectors to begin with: some iterations from a random u, so that evaluation before training is near the truth."""
    u = torch.randn_like(matrix[:, 0])
    for _ in range(iterations):
        u, v = power_iteration(matrix, u)
    return u, v

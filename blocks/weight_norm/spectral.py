"""Spectral normalisation: weights have largest singular value 1, so that each layer is Lipschitz with constant 1.

Miyato et al. 2018, https://arxiv.org/abs/1802.05957, algorithm 1.
"""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from blocks.common.autocast import at_least_float32
from blocks.common.recompute import is_recomputing
from blocks.families import WeightNorm

EPS = 1e-12


class SpectralNorm(WeightNorm, kind="spectral-norm"):
    """The weight divided by its largest singular value, estimated by one power iteration per training pass.

    The weight is flattened to a matrix W [O, rest], and sigma = u . W v. A training pass first computes
    v <- W^T u / |W^T u| and u <- W v / |W v|; evaluation uses the stored u and v. The gradient treats both as
    constants. (torch's own parametrisation iterates in the other order.)

    Args:
        weight: The weight at init.
        eps: Lower bound of the lengths that vectors are divided by.
    """

    sets_scale = True
    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, *, eps: Annotated[float, Field(gt=0)] = EPS) -> None:
        super().__init__()
        self.eps = eps
        u, v = initial_vectors(weight.detach().flatten(1))
        self.register_buffer("u", u)
        self.register_buffer("v", v)

    def forward(self, weight: Float[Tensor, "o ..."]) -> Float[Tensor, "o ..."]:
        matrix = weight.flatten(1)
        u, v = self.u, self.v
        if self.training and not is_recomputing():
            with torch.no_grad():
                u, v = power_iteration(matrix, u, self.eps)
                self.u.copy_(u)
                self.v.copy_(v)
        return weight / (u @ (matrix @ v))

    def converge(self, weight: Float[Tensor, "o ..."]) -> None:
        u, v = singular_vectors(weight.flatten(1))
        self.u.copy_(u)
        self.v.copy_(v)


def power_iteration(matrix: Float[Tensor, "o i"], u: Float[Tensor, " o"], eps: float = EPS) -> tuple[Tensor, Tensor]:
    """One step towards the singular vectors u [o] and v [i] of the largest singular value, v first."""
    v = unit(matrix.mT @ u, eps)
    return unit(matrix @ v, eps), v


def unit(x: Float[Tensor, " n"], eps: float = EPS) -> Float[Tensor, " n"]:
    """x divided by its length, by fewer kernels than `F.normalize`: there are dozens of weights in each pass."""
    length: Tensor = torch.linalg.vector_norm(x)
    return x / length.clamp_min(eps)


def initial_vectors(matrix: Float[Tensor, "o i"]) -> tuple[Tensor, Tensor]:
    """u and v after 8 power iterations from a random u, so that evaluation before training is nearly right."""
    u = torch.randn_like(matrix[:, 0])
    for _ in range(1 if matrix.is_meta else 8):  # on the meta device only shapes matter
        u, v = power_iteration(matrix, u)
    return u, v


def singular_vectors(matrix: Float[Tensor, "o i"]) -> tuple[Tensor, Tensor]:
    """u [o] and v [i] of the largest singular value, the limit of power iteration."""
    exact = at_least_float32(matrix)
    wide = exact if exact.shape[0] <= exact.shape[1] else exact.mT
    eigenvectors = torch.linalg.eigh(wide @ wide.mT)[1]  # of ascending eigenvalues
    shorter = eigenvectors[:, -1]
    longer = unit(wide.mT @ shorter)
    u, v = (shorter, longer) if wide is exact else (longer, shorter)
    return u.to(matrix.dtype), v.to(matrix.dtype)

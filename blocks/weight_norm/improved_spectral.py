"""Improved spectral normalisation: weights keep the largest singular value that they have at init.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589, section 3.2: a spectral norm of 1 makes a transformer
discriminator train too slowly, so the normalised weight is rescaled: W <- sigma(W_init) W / sigma(W).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from blocks.common.autocast import at_least_float32, no_autocast
from blocks.common.recompute import is_recomputing
from blocks.common.weight_cache import WeightCache
from blocks.families import Count, WeightNorm
from blocks.weight_norm.spectral import initial_vectors, power_iteration, singular_vectors


class ImprovedSpectralNorm(WeightNorm, kind="improved-spectral-norm"):
    """The weight W times sigma_init / sigma(W), where sigma is the largest singular value of W flattened to [O, rest].

    `sigma_init` is exact and part of the state dict. Methods to compute sigma(W):

    - exact: from the eigenvalues of W W^T or W^T W, in every pass.
    - tracked: u . W v of stored singular vectors, which each training pass updates by power iteration; nearly exact at
      a fraction of the cost. The gradient treats u and v as constants.
    - power-iteration: the authors' code. Each pass starts from the same random vector u, so sigma is too small and the
      norm is about 1.4 sigma_init. The gradient flows through the iterations.

    Args:
        weight: The weight at init.
        sigma: Method to compute sigma(W).
        power_iterations: Power iterations per pass, unless sigma is exact.
        eps: Added to the lengths of vectors by "power-iteration".
    """

    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"sigma": "tracked"}}, {"spec": {"sigma": "power-iteration"}})

    sigma_init: Tensor
    u: Tensor
    v: Tensor

    def __init__(
        self,
        weight: Tensor,
        *,
        sigma: Literal["exact", "tracked", "power-iteration"] = "exact",
        power_iterations: Count = 1,
        eps: Annotated[float, Field(gt=0)] = 1e-4,
    ) -> None:
        super().__init__()
        self.sigma, self.power_iterations, self.eps = sigma, power_iterations, eps
        matrix = weight.detach().flatten(1)
        self.register_buffer("sigma_init", largest_singular_value(matrix))
        if sigma == "tracked":
            u, v = initial_vectors(matrix)
            self.register_buffer("u", u)
            self.register_buffer("v", v)
        elif sigma == "power-iteration":
            u = torch.randn_like(matrix[:, 0])
            self.register_buffer("u", u / u.norm())

    def forward(self, weight: Float[Tensor, "o ..."]) -> Float[Tensor, "o ..."]:
        return self.normalized(weight) if self.training else _normalized(weight, self)

    def normalized(self, weight: Float[Tensor, "o ..."]) -> Float[Tensor, "o ..."]:
        matrix = weight.flatten(1)
        if self.sigma == "exact":
            sigma = largest_singular_value(matrix)
        else:
            u, v = self.restarted(matrix) if self.sigma == "power-iteration" else self.tracked(matrix)
            sigma = u @ (matrix @ v)
        return weight * (self.sigma_init / sigma)

    def restarted(self, matrix: Float[Tensor, "o i"]) -> tuple[Tensor, Tensor]:
        """Singular vectors by power iteration from the stored u, which is not changed."""
        u = self.u
        for _ in range(self.power_iterations):
            v = matrix.mT @ u
            v = v / (v.norm() + self.eps)
            u = matrix @ v
            u = u / (u.norm() + self.eps)
        return u, v

    @torch.no_grad()
    def tracked(self, matrix: Float[Tensor, "o i"]) -> tuple[Tensor, Tensor]:
        """The stored singular vectors; training updates them first."""
        u, v = self.u, self.v
        if self.training and not is_recomputing():
            for _ in range(self.power_iterations):
                u, v = power_iteration(matrix, u)
            self.u.copy_(u)
            self.v.copy_(v)
        return u, v

    def converge(self, weight: Float[Tensor, "o ..."]) -> None:
        if self.sigma == "tracked":
            u, v = singular_vectors(weight.flatten(1))
            self.u.copy_(u)
            self.v.copy_(v)


_normalized = WeightCache(lambda weight, norm: norm.normalized(weight))


def largest_singular_value(matrix: Float[Tensor, "o i"]) -> Float[Tensor, ""]:
    """Computed from the smaller Gram matrix, several times faster than all singular values."""
    wide = at_least_float32(matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT)
    with no_autocast(wide):
        squares: Tensor = torch.linalg.eigvalsh(wide @ wide.mT)  # ascending
    return squares[-1].sqrt().to(matrix.dtype)

"""Improved spectral normalisation: weights keep the largest singular value they were initialised with.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589, section 3.2: spectral norm one slows a transformer's
discriminator down too much, so the normalised weight is scaled back: W <- sigma(W_init) W / sigma(W).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor

from blocks.common.autocast import at_least_float32
from blocks.common.weight_cache import WeightCache
from blocks.families import WeightNorm
from blocks.weight_norm.spectral import power_iteration, settled


class ImprovedSpectralNorm(WeightNorm, kind="improved-spectral-norm"):
    """The weight W times sigma_init / sigma(W), sigma the largest singular value of W seen as a matrix [O, rest].

    `sigma_init` is exact and travels in checkpoints. Ways to sigma(W):

    - exact: from the eigenvalues of W W^T or W^T W, at every pass.
    - tracked: u . W v of singular vectors that are kept and brought up to date in each forward pass in training; nearly
      exact at a fraction of the cost. For the gradient u and v are constants.
    - power-iteration: the authors' code. It starts afresh from the same random vector u in each pass, so that sigma
      comes out too small and the norm about 1.4 sigma_init; the gradient goes through the iterations.

    Args:
        weight: The weight at the start.
        sigma: How sigma(W) is found.
        power_iterations: How many per pass, unless sigma is exact.
        eps: Added to the lengths of vectors in power iterations that start afresh.
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
        power_iterations: PositiveInt = 1,
        eps: Annotated[float, Field(gt=0)] = 1e-4,
    ) -> None:
        super().__init__()
        self.sigma, self.power_iterations, self.eps = sigma, power_iterations, eps
        matrix = weight.detach().flatten(1)
        self.register_buffer("sigma_init", largest_singular_value(matrix))
        if sigma == "tracked":
            u, v = settled(matrix)
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
            u, v = self.fresh(matrix) if self.sigma == "power-iteration" else self.tracked(matrix)
            sigma = u @ (matrix @ v)
        return weight * (self.sigma_init / sigma)

    def fresh(self, matrix: Float[Tensor, "o i"]) -> tuple[Tensor, Tensor]:
        """Vectors from the stored u, which stays as it is."""
        u = self.u
        for _ in range(self.power_iterations):
            v = matrix.mT @ u
            v = v / (v.norm() + self.eps)
            u = matrix @ v
            u = u / (u.norm() + self.eps)
        return u, v

    @torch.no_grad()
    def tracked(self, matrix: Float[Tensor, "o i"]) -> tuple[Tensor, Tensor]:
        """Vectors as they are kept, in training brought up to date first."""
        u, v = self.u, self.v
        if self.training:
            for _ in range(self.power_iterations):
                u, v = power_iteration(matrix, u)
            self.u.copy_(u)
            self.v.copy_(v)
        return u, v


_normalized = WeightCache(lambda weight, norm: norm.normalized(weight))


def largest_singular_value(matrix: Float[Tensor, "o i"]) -> Float[Tensor, ""]:
    """From the smaller of the two Gram matrices, several times faster than all singular values would be."""
    wide = at_least_float32(matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT)
    squares: Tensor = torch.linalg.eigvalsh(wide @ wide.mT)  # ascending
    return squares[-1].sqrt().to(matrix.dtype)

"""The Fréchet distance between two Gaussians, on which FID rests.

Heusel et al. 2017, https://arxiv.org/abs/1706.08500, section 2; the closed form: Dowson and Landau 1982.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def frechet_distance(
    mean1: Float[Tensor, " f"], cov1: Float[Tensor, "f f"], mean2: Float[Tensor, " f"], cov2: Float[Tensor, "f f"]
) -> float:
    """|mean1 - mean2|^2 + tr(cov1 + cov2 - 2 (cov1 cov2)^(1/2)), in float64.

    The trace of the root equals that of the symmetric (cov1^(1/2) cov2 cov1^(1/2))^(1/2), which is real also for
    singular covariances (fewer samples than features).
    """
    mean1, cov1, mean2, cov2 = (value.double() for value in (mean1, cov1, mean2, cov2))
    root1 = _root(cov1)
    cross = torch.linalg.eigvalsh(_symmetric(root1 @ cov2 @ root1)).clamp(min=0).sqrt().sum()
    distance: float = ((mean1 - mean2).square().sum() + cov1.trace() + cov2.trace()).item() - 2 * cross.item()
    return max(0.0, distance)


def gaussian_of(features: Float[Tensor, "n f"]) -> tuple[Float[Tensor, " f"], Float[Tensor, "f f"]]:
    """Mean and covariance of samples, in float64."""
    features = features.double()
    return features.mean(dim=0), torch.cov(features.T).reshape(features.shape[1], features.shape[1])


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(_symmetric(matrix))
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.T) / 2

"""FID: the Fréchet distance between Gaussians that are fitted to the features of two sets of images.

Heusel et al. 2017, https://arxiv.org/abs/1706.08500, section 2; the closed form: Dowson and Landau 1982. With features
of DINOv2: Stein et al. 2023, https://arxiv.org/abs/2306.04675.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.families import FeatureExtractor, FeatureSet, Metric
from registry import Slot


class FrechetDistance(Metric):
    """The Fréchet distance; lower is better."""

    needs_features: ClassVar[bool] = False

    def forward(self, generated: FeatureSet, reference: FeatureSet | None) -> dict[str, float]:
        assert reference is not None
        distance = frechet_distance(generated.mean, generated.covariance, reference.mean, reference.covariance)
        return {str(self.kind): distance}


class FID(FrechetDistance, kind="fid"):
    """The Fréchet inception distance.

    Args:
        extractor: The network whose features are compared.
    """

    def __init__(self, *, extractor: Slot[FeatureExtractor] = "inception") -> None:
        super().__init__()
        self.extractor = self.fill("extractor", extractor)


class FD(FrechetDistance, kind="fd"):
    """The Fréchet distance in the features of another network than Inception, by default DINOv2's.

    Args:
        extractor: The network whose features are compared.
    """

    def __init__(
        self,
        *,
        extractor: Slot[FeatureExtractor] = {  # noqa: B006 (pydantic copies it)
            "kind": "timm",
            "network": "vit_large_patch14_dinov2.lvd142m",
            "image_size": 224,
        },
    ) -> None:
        super().__init__()
        self.extractor = self.fill("extractor", extractor)


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

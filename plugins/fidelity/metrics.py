"""KID, the Inception Score, precision and recall by torch-fidelity; density and coverage.

KID: Binkowski et al. 2018, https://arxiv.org/abs/1801.01401. Inception Score: Salimans et al. 2016,
https://arxiv.org/abs/1606.03498. Precision and recall: Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991.
Density and coverage: Naeem et al. 2020, https://arxiv.org/abs/2002.09797.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from blocks.families import FeatureExtractor, FeatureSet, Metric
from plugins.fidelity.library import module
from registry import Slot, incompatible

ROWS = 2048  # of a distance matrix that are computed at once


class KID(Metric, kind="kid"):
    """The kernel inception distance: the squared maximum mean discrepancy under a cubic kernel, mean over subsets.

    Args:
        extractor: The network whose features are compared.
        subsets: Number of random subsets.
        subset_size: Images of either set in each; both sets need as many.
        seed: Random seed of the subsets.
    """

    def __init__(
        self,
        *,
        extractor: Slot[FeatureExtractor] = "inception",
        subsets: PositiveInt = 100,
        subset_size: PositiveInt = 1000,
        seed: NonNegativeInt = 2020,
    ) -> None:
        super().__init__()
        self.extractor = self.fill("extractor", extractor)
        self.settings = {"kid_subsets": subsets, "kid_subset_size": subset_size, "rng_seed": seed}
        self.min_images = subset_size

    def forward(self, generated: FeatureSet, reference: FeatureSet | None) -> dict[str, float]:
        assert reference is not None
        values = module("metric_kid").kid_features_to_metric(
            generated.features, reference.features, **self.settings, verbose=False
        )
        return {"kid": values["kernel_inception_distance_mean"], "kid_std": values["kernel_inception_distance_std"]}


class InceptionScore(Metric, kind="is"):
    """The Inception Score, mean over consecutive parts of the images; higher is better.

    Args:
        extractor: The network with a classifier.
        splits: Number of parts.
    """

    uses_reference: ClassVar[bool] = False
    lower_is_better: ClassVar[bool] = False

    def __init__(self, *, extractor: Slot[FeatureExtractor] = "inception", splits: PositiveInt = 10) -> None:
        super().__init__()
        self.extractor = self.fill("extractor", extractor)
        if type(self.extractor).logits is FeatureExtractor.logits:
            raise incompatible("extractor", f"{self.extractor.kind} has no classifier; use inception")
        self.splits = self.min_images = splits

    def forward(self, generated: FeatureSet, reference: FeatureSet | None) -> dict[str, float]:
        assert self.extractor is not None
        assert generated.features is not None
        logits = torch.cat([self.extractor.logits(part).cpu() for part in torch.split(generated.features, ROWS)])
        values = module("metric_isc").isc_features_to_metric(logits, self.splits, shuffle=False)
        return {"is": values["inception_score_mean"], "is_std": values["inception_score_std"]}


class PrecisionRecall(Metric, kind="prdc"):
    """Precision, recall, density and coverage; higher is better.

    Args:
        extractor: The network whose features are compared.
        neighbors: Nearest neighbours that define the manifolds of precision and recall.
        density_neighbors: Nearest neighbours that define the balls of density and coverage.
    """

    lower_is_better: ClassVar[bool] = False

    def __init__(
        self,
        *,
        extractor: Slot[FeatureExtractor] = "vgg16",
        neighbors: PositiveInt = 3,
        density_neighbors: PositiveInt = 5,
    ) -> None:
        super().__init__()
        self.extractor = self.fill("extractor", extractor)
        self.neighbors, self.density_neighbors = neighbors, density_neighbors
        self.min_images = 1 + max(neighbors, density_neighbors)

    def forward(self, generated: FeatureSet, reference: FeatureSet | None) -> dict[str, float]:
        assert reference is not None
        assert generated.features is not None
        assert reference.features is not None
        values = module("metric_prc").prc_features_to_metric(
            generated.features,
            reference.features,
            prc_neighborhood=self.neighbors,
            prc_batch_size=ROWS,
            save_cpu_ram=True,
            verbose=False,
        )
        density, coverage = density_and_coverage(generated.features, reference.features, self.density_neighbors)
        return {"precision": values["precision"], "recall": values["recall"], "density": density, "coverage": coverage}


def density_and_coverage(
    generated: Float[Tensor, "n f"], reference: Float[Tensor, "m f"], neighbors: int
) -> tuple[float, float]:
    """Mean number of real images' balls that hold a generated image, divided by k; share of balls that hold any.

    The ball of a real image reaches to its k-th nearest real image.

    Args:
        generated: Features of generated images.
        reference: Features of real images.
        neighbors: k.
    """
    inside, covered = 0, 0
    for part in torch.split(reference, ROWS):
        radius = torch.cdist(part, reference).kthvalue(neighbors + 1).values  # the nearest is the image itself
        hits = torch.cdist(part, generated) < radius[:, None]
        inside += int(hits.sum())
        covered += int(hits.any(dim=1).sum())
    return inside / (neighbors * len(generated)), covered / len(reference)

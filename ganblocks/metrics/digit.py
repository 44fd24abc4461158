"""The digit score as a metric: it needs no weights and no reference."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import NonNegativeInt
from torch import Tensor

from blocks.families import FeatureSet, GeneratedBatch, Metric
from blocks.metric.frechet import frechet_distance
from ganblocks.metrics.digit_score import FEATURES, DigitScore


class DigitDistance(Metric, kind="digit"):
    """The Fréchet distance from the built-in digits in the features of a small classifier; lower is better.

    The classifier is trained in seconds at the first use. Images are not quantised, and noise is constant.

    Args:
        seed: Random seed of the classifier.
    """

    uses_reference: ClassVar[bool] = False
    needs_features: ClassVar[bool] = False
    exact: ClassVar[bool] = True

    def __init__(self, *, seed: NonNegativeInt = 0) -> None:
        super().__init__()
        self.seed = seed
        self.judge: DigitScore | None = None

    def measure(self, batch: GeneratedBatch) -> Float[Tensor, "b f"]:
        images = batch.exact_images(batch.styles(batch.z))
        if self.judge is None:
            with torch.enable_grad():  # it trains its classifier
                self.judge = DigitScore((images.shape[2], images.shape[3]), self.seed)
        return self.judge.features(images / 127.5 - 1)

    def forward(self, generated: FeatureSet, reference: FeatureSet | None) -> dict[str, float]:
        assert self.judge is not None
        return {"digit": frechet_distance(*self.judge.real, generated.mean, generated.covariance)}

    def record(self) -> dict[str, Any]:
        return super().record() | {"features": FEATURES}

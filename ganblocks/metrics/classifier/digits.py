"""The digit score: the Fréchet distance between generated and real digits, in the features of a small classifier."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from pydantic import NonNegativeInt
from torch import Tensor

from blocks.families import FeatureSet, GeneratedBatch, Metric
from blocks.metric.frechet import frechet_distance
from ganblocks.data.digits import digits
from ganblocks.metrics.classifier.network import Classifier, fit
from ganblocks.metrics.classifier.score import ClassifierScore
from ganblocks.pixels import from_bytes
from ganblocks.randomness import fork_rng, seed_step

FEATURES = 32


class DigitScore(ClassifierScore):
    """A classifier of the built-in digits, trained in seconds on a CPU, and the Fréchet distance in its features.

    Args:
        resolution: Height and width of the images to evaluate; real digits are resized alike.
        seed: Random seed of the classifier's weights and training.
    """

    def __init__(self, resolution: int | tuple[int, int] = 32, seed: int = 0) -> None:
        train, held_out = (digits(split, resolution) for split in ("train", "held-out"))
        assert train.labels is not None
        assert held_out.labels is not None
        real, unseen = (from_bytes(each.pixels, "symmetric") for each in (train, held_out))
        with fork_rng():
            seed_step(seed, -1)
            network = Classifier(1, 16, (16, 32, 64), FEATURES, 10)
            draws = np.random.default_rng(seed)
            fit(network, network.inputs(real), train.labels, draws, epochs=12, lr=3e-3, max_shift=1)
        super().__init__(network, real, unseen, held_out.labels)


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
            self.judge = DigitScore((images.shape[2], images.shape[3]), self.seed)
        return self.judge.features(images / 127.5 - 1)

    def forward(self, generated: FeatureSet, reference: FeatureSet | None) -> dict[str, float]:
        assert self.judge is not None
        return {"digit": frechet_distance(*self.judge.real, generated.mean, generated.covariance)}

    def record(self) -> dict[str, Any]:
        return super().record() | {"features": FEATURES}

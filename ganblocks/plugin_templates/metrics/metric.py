"""Example metric: the distance between the mean features of generated and of real images.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

from blocks.families import FeatureExtractor, FeatureSet, Metric
from registry import Slot


class Example(Metric, kind="example"):
    """|mean of generated features - mean of real features|; lower is better.

    Args:
        extractor: The network whose features are compared.
    """

    needs_features = False

    def __init__(self, *, extractor: Slot[FeatureExtractor] = "inception") -> None:
        super().__init__()
        self.extractor = self.fill("extractor", extractor)

    def forward(self, generated: FeatureSet, reference: FeatureSet | None) -> dict[str, float]:
        assert reference is not None, "this metric compares with real images"
        return {str(self.kind): (generated.mean - reference.mean).norm().item()}

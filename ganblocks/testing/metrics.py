"""Checks of metrics: features of a small generator's images, and numbers from them."""

from __future__ import annotations

from typing import Any
from unittest import SkipTest

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from assemblies import parse
from blocks.families import FeatureExtractor, FeatureSet, Metric
from ganblocks.metrics.generated import Batch
from ganblocks.metrics.protocols import Protocol
from registry import IncompatibleError

GENERATOR = {
    "kind": "layered",
    "z_dim": 8,
    "mapping": {"kind": "mapping", "num_layers": 1},
    "synthesis": [{"kind": "constant", "resolution": 8, "dim": 8}, {"kind": "norm", "norm": "sln"}, {"kind": "to-rgb"}],
}
IMAGES = 8


class Colours(FeatureExtractor, kind="colours-of-a-test"):
    """The mean colours of four cells, in place of a network with published weights."""

    def forward(self, images: Shaped[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        return F.adaptive_avg_pool2d(images.float(), 2).flatten(1)

    def source(self) -> dict[str, str]:
        return {"weights": "none"}

    def logits(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n classes"]:
        return features / 100


def gives_numbers(name: str, block: type[Metric]) -> None:
    """Features of a batch are finite rows, and numbers finite; equal sets are no worse than different sets.

    Mean colours take the place of an extractor with published weights. Metrics that have such weights themselves, and
    those that take captions, are left out.
    """
    if getattr(block, "wants_published_weights", False) or block.needs_captions:
        raise SkipTest("needs published weights or captions")
    try:
        metric = block.Spec.model_validate(
            {"extractor": Colours.Spec()} if "extractor" in block.options else {}
        ).build()
    except IncompatibleError as error:
        raise SkipTest(str(error)) from None
    generator = parse(GENERATOR).build().eval()
    torch.manual_seed(0)
    with torch.no_grad():
        features = metric.measure(Batch(generator, generator, range(IMAGES), None, None, Protocol(name="test")))
    assert features.ndim == 2, f"measure returns {list(features.shape)}; a metric returns features [{IMAGES}, F]"
    assert features.shape[0] == IMAGES, f"measure returns features of {features.shape[0]} images, not of {IMAGES}"
    assert features.isfinite().all(), "measure returns features that are not finite"
    rows = features.repeat(-(-metric.min_images // IMAGES) + 1, 1)
    rows = rows + features.std() * torch.randn(rows.shape).to(rows)
    same = _numbers(metric, rows, rows)
    other = _numbers(metric, rows, rows + 5 * features.std())
    if metric.uses_reference:
        first = next(iter(same))
        better = same[first] <= other[first] if metric.lower_is_better else same[first] >= other[first]
        direction = "lower" if metric.lower_is_better else "higher"
        fact = f"{first} is {same[first]:.4g} for equal sets and {other[first]:.4g} for different ones"
        assert better, f"{fact}; set lower_is_better: {direction} is declared to be better"


def _numbers(metric: Any, generated: Tensor, reference: Tensor) -> dict[str, float]:
    sets = [_feature_set(generated), _feature_set(reference) if metric.uses_reference else None]
    numbers: dict[str, float] = metric(*sets)
    assert numbers, "returns no number; return a mapping from names to numbers, the main one first"
    for name, value in numbers.items():
        assert isinstance(value, float), f"{name} is of type {type(value).__name__}, not float; return tensor.item()"
        assert torch.tensor(value).isfinite(), f"{name} is {value}"
    return numbers


def _feature_set(rows: Tensor) -> FeatureSet:
    wide = rows.double()
    return FeatureSet(len(rows), wide.mean(dim=0), torch.cov(wide.T).reshape(rows.shape[1], rows.shape[1]), rows)

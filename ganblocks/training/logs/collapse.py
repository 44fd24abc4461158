"""The collapse alarm: signs of mode collapse and of a discriminator that has won, from log lines in a row.

A collapsed generator makes equal images, whatever its latents are: the mean distance between samples, in a feature
space, falls far below that of real images. A discriminator that separates real and generated images in every step, or
whose logits run away, gives no useful gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.families import FeatureExtractor

PATIENCE = 4  # log lines in a row
MIN_DIVERSITY = 0.35  # of the samples, as a fraction of that of real images
WARM_UP = 20  # log lines in which samples may still become diverse
MAX_SEPARATED = 0.995  # share of a log line's steps in which all real images have higher logits than all generated ones
MAX_GAP = 50.0  # between the mean logits of real and generated images, while it grows
THUMBNAIL = 8  # px; features without an extractor


class CollapseAlarm:
    """Decides from the ticks of a log, so that a resumed training continues with the same.

    Args:
        ticks: Records of the log lines so far.
    """

    def __init__(self, ticks: Sequence[Mapping[str, Any]] = ()) -> None:
        self.rows: list[dict[str, float]] = []
        self.was_diverse = False
        for tick in ticks:
            self.add(tick["losses"] | tick.get("signals", {}))

    def add(self, values: Mapping[str, float]) -> dict[str, str]:
        """Add the values of a log line.

        Args:
            values: Losses and signals; of them `logits/real`, `logits/fake`, `collapse/separated` and
                `collapse/diversity` are used.

        Returns:
            Texts of the alarms that hold, by name: diversity, separated, gap.
        """
        self.rows = [*self.rows, dict(values)][-max(PATIENCE, WARM_UP) :]
        self.was_diverse |= values.get("collapse/diversity", 0.0) >= MIN_DIVERSITY
        alarms = {}
        diversity, separated = self.last("collapse/diversity"), self.last("collapse/separated")
        if diversity and max(diversity) < MIN_DIVERSITY and (self.was_diverse or len(self.rows) == WARM_UP):
            alarms["diversity"] = (
                f"samples differ by {diversity[-1]:.0%} of what real images do, below {MIN_DIVERSITY:.0%} at "
                f"{PATIENCE} log lines: the generator collapses"
            )
        if separated and min(separated) > MAX_SEPARATED:
            alarms["separated"] = (
                f"all real logits are above all generated ones in {separated[-1]:.1%} of the steps, above "
                f"{MAX_SEPARATED:.1%} at {PATIENCE} log lines: the discriminator has won"
            )
        pairs = zip(self.last("logits/real"), self.last("logits/fake"), strict=False)
        gaps = [abs(real - fake) for real, fake in pairs]
        if gaps and gaps[0] > MAX_GAP and gaps == sorted(set(gaps)):
            alarms["gap"] = (
                f"mean logits of real and generated images differ by {gaps[-1]:.4g}, above {MAX_GAP:g} and more at "
                f"each of {PATIENCE} log lines: logits diverge"
            )
        return alarms

    def last(self, name: str) -> list[float]:
        """The values of the last `PATIENCE` log lines; none if one lacks it."""
        values = [row[name] for row in self.rows[-PATIENCE:] if name in row]
        return values if len(values) == PATIENCE else []


@torch.no_grad()
def diversity(pictures: Tensor, extractor: FeatureExtractor | None = None) -> float:
    """Mean Euclidean distance between the features of images [B,K,H,W] in bytes.

    Args:
        pictures: The images.
        extractor: Gives the features; None for thumbnails of 8 px.
    """
    features: Float[Tensor, "b f"]
    if extractor is None:
        features = F.adaptive_avg_pool2d(pictures.float(), THUMBNAIL).flatten(1)
    else:
        features = extractor(pictures).float()
    return float(F.pdist(features).mean())

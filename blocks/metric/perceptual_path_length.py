"""PPL, the perceptual path length: how far images move, perceptually, for a small step of the style vectors.

StyleGAN, Karras et al. 2019, https://arxiv.org/abs/1812.04948, section 4.1; without the crop of StyleGAN's table.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from blocks.families import FeatureExtractor, FeatureSet, GeneratedBatch, Metric
from registry import Slot

PARTNER = 2**31  # added to a seed: that of the latent at the other end of its path; CPUs use 32 bits of a seed


class PerceptualPathLength(Metric, kind="ppl"):
    """The perceptual path length in w.

    Each latent is joined with a second one by a line in w. The squared distance of the features of two images a small
    step apart, divided by the square of the step, is averaged over all lines, without outliers. Images are not
    quantised; noise is constant.

    Args:
        extractor: Its squared distance of features is the perceptual distance.
        epsilon: Length of the step, as a fraction of the line.
        sampling: Position of the step: at the start of the line, which StyleGAN2 uses, or anywhere on it.
        max_resolution: Side in pixels that larger images are averaged down to.
        outliers: Percentage of the distances that is left out at either end.
    """

    uses_reference: ClassVar[bool] = False
    exact: ClassVar[bool] = True

    def __init__(
        self,
        *,
        extractor: Slot[FeatureExtractor] = "lpips",
        epsilon: PositiveFloat = 1e-4,
        sampling: Literal["end", "full"] = "end",
        max_resolution: PositiveInt = 256,
        outliers: Annotated[float, Field(ge=0, lt=50)] = 1.0,
    ) -> None:
        super().__init__()
        self.extractor = self.fill("extractor", extractor)
        self.epsilon, self.sampling, self.max_resolution, self.outliers = epsilon, sampling, max_resolution, outliers

    def measure(self, batch: GeneratedBatch) -> Float[Tensor, "b 1"]:
        """The distance of each latent's two images, divided by the square of the step."""
        draws = [torch.Generator().manual_seed(PARTNER + seed) for seed in batch.seeds]
        other = torch.stack([torch.randn(batch.z.shape[1], generator=each) for each in draws]).to(batch.z)
        places = [torch.rand(1, generator=each) for each in draws]
        start, end = batch.styles(batch.z), batch.styles(other)
        place = torch.stack(places)[..., None].to(start) * (self.sampling == "full")
        near, far = (self.features(batch, start.lerp(end, place + step)) for step in (0.0, self.epsilon))
        return (near - far).square().sum(dim=1, keepdim=True) / self.epsilon**2

    def features(self, batch: GeneratedBatch, ws: Float[Tensor, "b n w"]) -> Float[Tensor, "b f"]:
        assert self.extractor is not None
        images = batch.exact_images(ws)
        ratio = self.max_resolution / max(images.shape[2:])
        if ratio < 1:
            images = F.interpolate(images, [round(ratio * side) for side in images.shape[2:]], mode="area")
        features: Tensor = self.extractor(images)
        return features.double()

    def forward(self, generated: FeatureSet, reference: FeatureSet | None) -> dict[str, float]:
        assert generated.features is not None
        distances = generated.features.flatten().double()
        low, high = (
            torch.quantile(distances, part / 100, interpolation=rounding)
            for part, rounding in ((self.outliers, "lower"), (100 - self.outliers, "higher"))
        )
        kept = distances[(low <= distances) & (distances <= high)]
        return {"ppl": kept.mean().item(), "ppl_std": kept.std(correction=0).item()}

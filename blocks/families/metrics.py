"""The families of metrics: networks whose features images are compared in, and numbers from these features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from jaxtyping import Float, Float64, Shaped, UInt8
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from registry import Block
from registry import Spec as BlockSpec


class FeatureExtractor(Block, nn.Module, family="feature-extractor"):
    """A frozen network of metrics: images [B,3,H,W] of values 0 to 255 -> features [B,F]. No context.

    Images are bytes, or floats for metrics that must not round.
    """

    resize_filter: str = "none"  # how it resizes images to its input size, for records

    def forward(self, images: Shaped[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        raise NotImplementedError

    def source(self) -> dict[str, str]:
        """Name and SHA-256 of its weights, for records."""
        raise NotImplementedError

    def record(self) -> dict[str, Any]:
        """What its features depend on: its options, its resizing, and the hash of its weights."""
        options: dict[str, Any] = {name: value for name, value in self.spec.to_dict().items() if "weights" not in name}
        return {**options, "resize_filter": self.resize_filter, **self.source()}

    def logits(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n classes"]:
        """The logits of its classifier, from features; only of extractors that have one."""
        raise NotImplementedError


class FeatureSet(NamedTuple):
    """The features of a set of images.

    Args:
        num_images: Number of images.
        mean: Mean of the features, in float64.
        covariance: Their covariance, in float64.
        features: The features of each image, in order; None where only mean and covariance are known.
    """

    num_images: int
    mean: Float64[Tensor, " f"]
    covariance: Float64[Tensor, "f f"]
    features: Float[Tensor, "n f"] | None = None


class GeneratedBatch(Protocol):
    """A batch of a generator's images, which are generated when they are first used."""

    @property
    def generator(self) -> nn.Module:
        """The generator, in eval mode."""

    @property
    def seeds(self) -> Sequence[int]:
        """Random seed of each image."""

    @property
    def z(self) -> Float[Tensor, "b z"]:
        """Latents."""

    @property
    def captions(self) -> Sequence[str] | None:
        """The caption of each image; None where the generator takes none."""

    @property
    def images(self) -> UInt8[Tensor, "b 3 h w"]:
        """The images, quantised to bytes; grey images as RGB."""

    def styles(self, z: Float[Tensor, "b z"]) -> Float[Tensor, "b n w"]:
        """The style vectors of latents, under the batch's conditions and truncation."""

    def exact_images(self, ws: Float[Tensor, "b n w"]) -> Float[Tensor, "b 3 h w"]:
        """Images of style vectors in [0,255] without quantisation, in float32, with constant noise."""


class Metric(Block, nn.Module, family="metric"):
    """A number that says how good generated images are: features of both sets -> values by name, the main one first.

    No context. `measure` turns each batch into features; the calls of all batches and processes are collected into one
    `FeatureSet`.
    """

    class Spec(BlockSpec):
        every_kimg: PositiveFloat = Field(200.0, description="Thousands of images between two uses in a training.")
        num: PositiveInt = Field(10_000, description="Number of generated images in a training.")
        reference: str | None = Field(
            None, description="In a training, a file with statistics of real images; null: the training images."
        )

    uses_reference: ClassVar[bool] = True
    needs_features: ClassVar[bool] = True  # False: the reference's mean and covariance are enough
    needs_captions: ClassVar[bool] = False
    exact: ClassVar[bool] = False  # True: it measures images before quantisation, with constant noise
    lower_is_better: ClassVar[bool] = True
    extractor: FeatureExtractor | None
    min_images: int = 2

    def __init__(self) -> None:
        super().__init__()
        self.extractor = None

    def measure(self, batch: GeneratedBatch) -> Float[Tensor, "b f"]:
        """Features of generated images; by default those of the extractor, which metrics can share."""
        assert self.extractor is not None
        features: Tensor = self.extractor(batch.images)
        return features

    def forward(self, generated: FeatureSet, reference: FeatureSet | None) -> dict[str, float]:
        raise NotImplementedError

    def record(self) -> dict[str, Any]:
        """The options that its numbers depend on, without those of its extractor and of a training."""
        other = {"kind", "extractor", "weights", *type(self).family.Spec.model_fields}
        return {name: value for name, value in self.spec.to_dict().items() if name not in other}

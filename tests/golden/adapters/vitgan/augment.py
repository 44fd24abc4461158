"""DiffAugment as the authors' code and the re-implementation call it, with given random numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from blocks.augment.diff_augment import DiffAugment
from tests.golden.fixtures import Fixture, Outputs, adapter


@adapter("vitgan", "off_diffaug")
def official(fixture: Fixture) -> Outputs:
    image = fixture.inputs["image"]
    return {policy: augment_officially(policy, image, fixture.inputs) for policy in fixture.config["policies"]}


@adapter("vitgan", "re_diffaug")
def reimplemented(fixture: Fixture) -> Outputs:
    image = fixture.inputs["image"]
    return {policy: reimplemented_augment(policy)(image, fixture.inputs) for policy in fixture.config["policies"]}


def official_augment(policy: str) -> DiffAugment:
    """The authors' DiffAugment, whose translation includes a flip."""
    functions: Any = tuple(name for name in policy.replace("translation", "translation,flip").split(",") if name)
    return DiffAugment(
        policy=functions,
        color_probability=0.8,
        translation_probability=0.8,
        flip_probability=0.45,
        cutout_probability=0.3,
        cutout_ratio=0.5,
    )


def augment_officially(policy: str, image: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
    """The authors' DiffAugment of images in [0,1], which it converts to [-1,1] and back."""
    return official_augment(policy)(2 * image - 1, draws) / 2 + 0.5


def reimplemented_augment(policy: str) -> DiffAugment:
    functions: Any = tuple(name for name in policy.split(",") if name)
    return DiffAugment(policy=functions, translation_ratio=0.1, cutout_ratio=0.3)

"""Augmentations change images in training mode only, and training runs all of them in that mode."""

from __future__ import annotations

import pytest
import torch

from assemblies import parse
from blocks.augment.ada import ADA
from blocks.augment.diff_augment import DiffAugment
from blocks.augment.fading_blur import FadingBlur
from blocks.families import Augment
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.trainer import Trainer
from tests import tiny

AUGMENTS = [
    ADA(p=1.0, policy=("blit", "geometry", "color", "filter", "noise", "cutout")),
    DiffAugment(),
    FadingBlur(init_sigma=2.0, fade_kimg=2.0, then="diffaugment"),
]


@pytest.mark.parametrize("augment", AUGMENTS, ids=lambda augment: augment.kind)
def test_eval_mode_is_the_identity(augment: Augment) -> None:
    image = torch.rand(2, 3, 16, 16)
    assert not torch.equal(augment.train()(image), image)
    assert torch.equal(augment.eval()(image), image)


@pytest.mark.parametrize("augment", AUGMENTS, ids=lambda augment: augment.kind)
def test_a_single_image_without_a_batch_axis_is_refused(augment: Augment) -> None:
    with pytest.raises(ValueError, match=r"image should have shape \[B, C, H, W\], not \[3, 16, 16\]"):
        augment(torch.rand(3, 16, 16))


@pytest.mark.parametrize("augment", AUGMENTS[:2], ids=lambda augment: augment.kind)
def test_explicit_draws_are_applied_in_eval_mode_too(augment: ADA | DiffAugment) -> None:
    image = torch.rand(2, 3, 16, 16)
    draws = augment.draw(image)
    assert torch.equal(augment.eval()(image, draws), augment.train()(image, draws))
    assert not torch.equal(augment.eval()(image, draws), image)


def test_training_calls_every_augmentation_in_training_mode() -> None:
    bcr = {"kind": "bcr", "augment": {"kind": "fading-blur", "init_sigma": 2.0, "fade_kimg": 2.0, "then": "ada"}}
    trainer = Trainer(parse(tiny.gan(regularizers=[bcr])), DistributedContext("cpu"))
    modes: dict[str, bool] = {}
    for augment in (module for module in trainer.gan.modules() if isinstance(module, Augment)):
        augment.register_forward_pre_hook(lambda module, _: modes.update({module.kind: module.training}))
    trainer.train_step(torch.rand(8, 3, 16, 16) * 2 - 1, None)
    assert modes == {"diffaugment": True, "fading-blur": True, "ada": True}

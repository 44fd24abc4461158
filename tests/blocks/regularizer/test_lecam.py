"""LeCam regularisation: the formula, its anchors, and where they are kept."""

from __future__ import annotations

import pytest
import torch

from assemblies import parse
from blocks.families import Batch, Regularizer
from blocks.regularizer.lecam import LeCam
from ganblocks.training.checkpoint import checkpoint_tensors
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.trainer import Trainer
from tests import tiny
from tests.blocks.regularizer.toys import Linear, images, networks

REAL, FAKE = torch.tensor([[1.0, 3.0], [2.0, 2.0]]), torch.tensor([[-1.0, 0.0], [-1.0, -2.0]])


def test_logits_are_drawn_to_the_running_mean_of_the_other_side() -> None:
    lecam = LeCam(weight=0.5, decay=0.9)
    expected, a_real, a_fake = [], 0.0, 0.0
    for _ in range(3):
        a_real, a_fake = 0.9 * a_real + 0.1 * 2.0, 0.9 * a_fake - 0.1 * 1.0
        expected.append(0.5 * ((REAL - a_fake).square().mean() + (FAKE - a_real).square().mean()))
    values = [lecam(networks(Linear()), Batch(real_logits=REAL, fake_logits=FAKE)) for _ in range(3)]
    torch.testing.assert_close(torch.stack(values), torch.stack(expected))


def test_without_logits_of_the_main_loss_it_computes_them() -> None:
    discriminator, real, fake = Linear(), images(0), images(1)
    logits = {"real_logits": discriminator(real), "fake_logits": discriminator(fake)}
    known, computed = (
        LeCam()(networks(discriminator), batch)
        for batch in (Batch(real=real, fake=fake, **logits), Batch(real=real, fake=fake))
    )
    torch.testing.assert_close(known, computed)
    (gradient,) = torch.autograd.grad(computed, discriminator.slope)
    assert gradient.abs().max() > 0


def test_logits_that_are_not_finite_leave_the_anchors_alone() -> None:
    lecam = LeCam()
    lecam(networks(Linear()), Batch(real_logits=REAL * float("inf"), fake_logits=FAKE))
    assert lecam.real_anchor == 0
    assert lecam.fake_anchor < 0


def test_the_anchors_are_part_of_checkpoints() -> None:
    trainer = Trainer(parse(tiny.gan(regularizers=["lecam"])), DistributedContext("cpu"))
    trainer.train_step(torch.rand(8, 3, 16, 16) * 2 - 1, None)
    tensors = checkpoint_tensors(trainer)
    assert tensors["gan.regularizers.0.real_anchor"] != 0
    assert tensors["gan.regularizers.0.fake_anchor"] != 0


def test_a_regularizer_declares_its_side() -> None:
    with pytest.raises(TypeError, match="Lost: declare whose loss it is added to, side = 'generator' or"):
        type(Regularizer)("Lost", (Regularizer,), {"__init__": lambda self: None, "side": "both"}, kind="lost")

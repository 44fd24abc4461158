"""Activation checkpointing: the gradients are the same bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from assemblies import check, parse
from ganblocks.randomness import seed_step
from registry import IncompatibleError
from tests import tiny
from tests.training.conftest import new_trainer, real_images

NOISY = copy.deepcopy(tiny.GENERATOR)
NOISY["synthesis"][2:2] = [{"kind": "modulated-conv", "dim": 8}]  # with noise, drawn in each pass
SECOND_ORDER = [
    {"kind": "r1", "every": 2},
    {"kind": "gradient-penalty"},
    {"kind": "approximate-r2"},
    {"kind": "path-length", "every": 2},
]


def trained(**changes: Any) -> dict[str, Tensor]:
    """All tensors after three steps."""
    trainer = new_trainer(tiny.gan(generator=NOISY, regularizers=SECOND_ORDER, style_mixing=0.5, **changes))
    for step in range(3):
        seed_step(0, step)
        trainer.train_step(real_images(), None)
    return dict(trainer.gan.named_parameters()) | dict(trainer.gan.named_buffers())


@pytest.fixture(scope="module")
def plain() -> dict[str, Tensor]:
    return trained()


@pytest.mark.parametrize("checkpoint", [True, {"generator": True}, {"discriminator": True}])
def test_a_training_is_the_same_bit_for_bit(plain: dict[str, Tensor], checkpoint: Any) -> None:
    recomputed = trained(checkpoint=checkpoint)
    assert [name for name, value in plain.items() if not torch.equal(value, recomputed[name])] == []


def saved_values(**changes: Any) -> int:
    """Number of values that the generator's loss keeps for the backward pass."""
    trainer, saved = new_trainer(tiny.gan(regularizers=[], **changes)), []
    with trainer.optimizers["generator"].trainable(), saved_tensors_hooks(lambda t: saved.append(t.numel()), id):
        trainer.logits(trainer.networks.generator(trainer.draw_z()), None)
    return sum(saved)


def test_fewer_values_are_kept() -> None:
    assert saved_values(checkpoint=True) < saved_values() / 3


def test_evaluation_computes_nothing_again() -> None:
    generator = new_trainer(tiny.gan(checkpoint=True)).generator_ema
    calls: list[int] = []
    generator.synthesis[1].register_forward_hook(lambda *_: calls.append(1))
    ws = torch.randn(2, generator.num_ws, generator.w_dim, requires_grad=True)
    generator.synthesis(ws).sum().backward()
    assert len(calls) == 1


def test_a_weight_norm_that_changes_in_each_pass_is_refused() -> None:
    discriminator = tiny.DISCRIMINATOR | {"weight_norm": "spectral-norm"}
    with pytest.raises(IncompatibleError, match=r"checkpoint.discriminator +spectral-norm changes its vectors"):
        check(parse(tiny.gan(discriminator=discriminator, checkpoint=True)))
    check(parse(tiny.gan(discriminator=discriminator, checkpoint={"generator": True})))


def test_a_network_without_a_list_of_steps_is_refused() -> None:
    from assemblies import ProjectedDiscriminator

    discriminator = {"kind": "projected", **ProjectedDiscriminator.examples[0]["spec"]}
    with pytest.raises(IncompatibleError, match=r"a discriminator of kind projected has no list of steps"):
        check(parse(tiny.gan(discriminator=discriminator, checkpoint=True)))

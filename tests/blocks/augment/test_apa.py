"""Adaptive pseudo augmentation: which images are replaced, and what the discriminator gets."""

from __future__ import annotations

import pytest
import torch

from assemblies import parse
from blocks.augment.apa import APA
from blocks.augment.fading_blur import FadingBlur
from blocks.families import Augment
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.trainer import Trainer
from tests import tiny


@pytest.mark.parametrize("augment", [APA(p=0.3), FadingBlur(then={"kind": "apa", "p": 0.3})], ids=["alone", "nested"])
def test_a_share_p_of_the_real_images_is_replaced_by_the_generated_ones_of_the_same_place(augment: Augment) -> None:
    torch.manual_seed(0)
    real, fake = torch.zeros(4000, 1, 2, 2), torch.arange(1.0, 4001.0)[:, None, None, None].expand(-1, 1, 2, 2)
    mixed = augment.mix(real, fake)
    replaced = mixed[:, 0, 0, 0] != 0
    assert replaced.double().mean().item() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(mixed[replaced], fake[replaced])
    assert torch.equal(augment.eval().mix(real, fake), real)


def test_images_of_several_levels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"apa: .* \[2, 3, 4, 4\] and \[2, 9, 4, 4\]"):
        APA(p=0.3).mix(torch.zeros(2, 3, 4, 4), torch.zeros(2, 9, 4, 4))


def test_p_adapts_with_the_augmentation_that_follows() -> None:
    augment = APA(kimg=1.0, interval=1, limit=0.5, then={"kind": "ada", "kimg": 2.0, "interval": 1})
    for _ in range(9):
        augment.observe(torch.tensor(1.0), 100)
    assert {name: round(value.item(), 3) for name, value in augment.strength().items()} == {"p": 0.5, "then.p": 0.45}


def test_the_discriminator_gets_the_mixed_images_and_the_generator_the_real_ones() -> None:
    document = tiny.gan(augment={"kind": "apa", "p": 1.0, "target": None}, regularizers=["r1"], loss="relativistic")
    trainer, shown = Trainer(parse(document), DistributedContext("cpu")), []
    trainer.discriminator.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].detach()))
    real = torch.rand(8, 3, 16, 16) * 2 - 1
    trainer.train_step(real, None)
    as_real, as_fake, for_r1, of_generator, real_of_generator = shown
    assert torch.equal(as_real, as_fake)
    assert torch.equal(for_r1, as_fake)
    assert not torch.equal(of_generator, as_fake)
    assert torch.equal(real_of_generator, real)

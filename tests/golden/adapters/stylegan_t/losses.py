"""StyleGAN-T's loss and its use of DiffAugment."""

from __future__ import annotations

import torch

from blocks.augment.diff_augment import DiffAugment
from blocks.loss.hinge import Hinge
from tests.golden.fixtures import Fixture, Outputs, adapter

DRAWS = {
    "draw_brightness": "brightness.value",
    "draw_saturation": "saturation.value",
    "draw_contrast": "contrast.value",
    "draw_translation_h": "translation.dy",
    "draw_translation_w": "translation.dx",
    "draw_cutout_h": "cutout.cy",
    "draw_cutout_w": "cutout.cx",
}


@adapter("stylegan_t", "diffaug")
def diffaug(fixture: Fixture) -> Outputs:
    policy = tuple(name for name in fixture.config["policy"].split(",") if name)
    return {"y": DiffAugment(policy=policy)(fixture.inputs["x"], draws_of(fixture))}


def draws_of(fixture: Fixture) -> Outputs:
    """The fixture's random numbers of DiffAugment by our names."""
    draws = {new: fixture.inputs[old] for old, new in DRAWS.items() if old in fixture.inputs}
    if "resize_draw" in fixture.config:  # one number for the whole batch, in float64
        draws["resize.value"] = torch.tensor([fixture.config["resize_draw"]], dtype=torch.float64)
    return draws


@adapter("stylegan_t", "hinge")
def hinge(fixture: Fixture) -> Outputs:
    real, fake, loss = fixture.inputs["real_logits"], fixture.inputs["fake_logits"], Hinge()
    batch = len(real)  # the reference divides its means by the batch size once more
    margin = torch.ones_like(real)  # the loss of a logit at the margin is 0
    discriminator, generator = loss.discriminator(real, fake) / batch, loss.generator(fake) / batch
    of_real, of_fake = torch.autograd.grad(discriminator, [real, fake])
    return {
        "loss_D": discriminator,
        "loss_D_real": loss.discriminator(real, -margin) / batch,
        "loss_D_fake": loss.discriminator(margin, fake) / batch,
        "loss_G": generator,
        "dlossD_dreal": of_real,
        "dlossD_dfake": of_fake,
        "dlossG_dfake": torch.autograd.grad(generator, fake)[0],
    }

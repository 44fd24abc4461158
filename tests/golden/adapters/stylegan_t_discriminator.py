"""StyleGAN-T's loss and its use of DiffAugment."""

from __future__ import annotations

import torch
from torch import Tensor

from blocks.augment.diff_augment import DiffAugment
from blocks.loss.hinge import Hinge
from tests.golden.recipe import Fixture, adapter

OURS = {
    "draw_brightness": "brightness.value",
    "draw_saturation": "saturation.value",
    "draw_contrast": "contrast.value",
    "draw_translation_h": "translation.dy",
    "draw_translation_w": "translation.dx",
    "draw_cutout_h": "cutout.cy",
    "draw_cutout_w": "cutout.cx",
}


@adapter("stylegan_t", "diffaug")
def diffaug(fixture: Fixture) -> dict[str, Tensor]:
    policy = tuple(name for name in fixture.config["policy"].split(",") if name)
    draws = {ours: fixture.inputs[theirs] for theirs, ours in OURS.items() if theirs in fixture.inputs}
    if "resize_draw" in fixture.config:  # one for the whole batch, and never in float32
        draws["resize.value"] = torch.tensor([fixture.config["resize_draw"]], dtype=torch.float64)
    return {"y": DiffAugment(policy=policy)(fixture.inputs["x"], draws)}


@adapter("stylegan_t", "hinge")
def hinge(fixture: Fixture) -> dict[str, Tensor]:
    real, fake, loss = fixture.inputs["real_logits"], fixture.inputs["fake_logits"], Hinge()
    batch = len(real)  # the reference divides its means by the batch size once more
    beyond = torch.ones_like(real)  # the margin, where a logit costs nothing
    discriminator, generator = loss.discriminator(real, fake) / batch, loss.generator(fake) / batch
    of_real, of_fake = torch.autograd.grad(discriminator, [real, fake])
    return {
        "loss_D": discriminator,
        "loss_D_real": loss.discriminator(real, -beyond) / batch,
        "loss_D_fake": loss.discriminator(beyond, fake) / batch,
        "loss_G": generator,
        "dlossD_dreal": of_real,
        "dlossD_dfake": of_fake,
        "dlossG_dfake": torch.autograd.grad(generator, fake)[0],
    }

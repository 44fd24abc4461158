"""StyleGAN-T's training: blur, guidance, the losses of a step, and what changes as training goes on."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from assemblies import EMA
from blocks.augment.fading_blur import blur, faded
from blocks.common.guidance import as_seen, spherical_distance
from blocks.loss.hinge import Hinge
from ganblocks.training.ema import decay
from tests.golden.recipe import Fixture, adapter

SEEN = 224
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@adapter("stylegan_t", "blur")
def blurred(fixture: Fixture) -> dict[str, Tensor]:
    return {"y": blur(fixture.inputs["img"], fixture.config["sigma"])}


@adapter("stylegan_t", "spherical_distance")
def distance(fixture: Fixture) -> dict[str, Tensor]:
    found = spherical_distance(fixture.inputs["x"], fixture.inputs["y"])
    return {"per_sample": found, "mean": found.mean()}


@adapter("stylegan_t", "clip_image_features")
def image_features(fixture: Fixture) -> dict[str, Tensor]:
    return {"features": embedded(fixture.inputs["img"], fixture.config["pool"])}


@adapter("stylegan_t", "schedules")
def schedules(fixture: Fixture) -> dict[str, Tensor]:
    sigma = [faded(init, fade, images) for init, fade, images in fixture.config["blur_cases"]]
    beta = [
        decay(EMA(half_life_kimg=kimg, ramp_up=ramp_up), batch_size, images)
        for batch_size, kimg, ramp_up, images in fixture.config["ema_cases"]
    ]
    return {
        "blur_sigma": torch.tensor(sigma, dtype=fixture.dtype),
        "ema_beta": torch.tensor(beta, dtype=fixture.dtype),
    }


@adapter("stylegan_t", "loss_phase")
def loss_phase(fixture: Fixture) -> dict[str, Tensor]:
    """Their adversarial terms are divided by the batch once more."""
    config, size = fixture.config, fixture.config["img_resolution"]
    sigma = faded(config["blur_init_sigma"], config["blur_fade_kimg"], config["cur_nimg"])
    fake, real, c = (fixture.inputs[name] for name in ("gen_img", "real_img", "c_enc"))
    if real.shape[-1] > size:
        real = F.adaptive_avg_pool2d(real, size)

    def judged(image: Tensor) -> Tensor:
        return (F.avg_pool2d(blur(image, sigma), config["d_pool"]) * config["d_gain"]).flatten(1)

    loss, batch = Hinge(), len(fake)
    logits = judged(fake)
    top, left = config.get("crop64", (0, 0))
    cropped = fake[:, :, top : top + 64, left : left + 64]
    adversarial = loss.generator(logits) / batch
    guidance = spherical_distance(embedded(cropped, config["clip_pool"]), c).mean()
    (gradient,) = torch.autograd.grad(adversarial + config["clip_weight"] * guidance, fake)
    return {
        "D.logits_fake": logits,
        "D.logits_real": judged(real),
        "D.loss": loss.discriminator(judged(real), logits) / batch,
        "G.loss": adversarial,
        "G.clip_loss": guidance,
        "G.dtotal_dgen_img": gradient,
        "blur_sigma": torch.tensor(sigma, dtype=fixture.dtype),
    }


def embedded(image: Tensor, pool: int) -> Tensor:
    """Their stand-in for the image tower."""
    seen = as_seen(image, (SEEN, SEEN), image.new_tensor(MEAN), image.new_tensor(STD))
    return F.normalize(F.avg_pool2d(seen, pool).flatten(1), dim=1)

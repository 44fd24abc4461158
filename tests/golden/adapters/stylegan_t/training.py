"""StyleGAN-T's training: blur, guidance by CLIP, a whole step of the trainer, and what changes as training goes on."""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assemblies import EMA, parse
from blocks.augment.fading_blur import FadingBlur, blur, sigma_at
from blocks.common.pretrained.guidance import spherical_distance
from blocks.families import Batch, Networks
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.ema import decay, ema_copy
from ganblocks.training.optimizer import NetworkOptimizer
from ganblocks.training.trainer import Trainer
from plugins import open_clip
from tests.golden.fixtures import Fixture, Outputs, adapter

CLIP_SIZE = 224
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
NO_CHANGE = {"lr": 1e-30}  # the recording's networks are the same in both phases of the step


@adapter("stylegan_t", "blur")
def blurred(fixture: Fixture) -> Outputs:
    return {"y": blur(fixture.inputs["img"], fixture.config["sigma"])}


@adapter("stylegan_t", "spherical_distance")
def distance(fixture: Fixture) -> Outputs:
    each = spherical_distance(fixture.inputs["x"], fixture.inputs["y"])
    return {"per_sample": each, "mean": each.mean()}


@adapter("stylegan_t", "clip_image_features")
def image_features(fixture: Fixture) -> Outputs:
    image, pool = fixture.inputs["img"], fixture.config["pool"]
    guidance = with_stand_in_tower(open_clip.ClipGuidance(embed_dim(pool), **tiny_clip(pool)), pool, image.dtype)
    guidance.crop = max(image.shape[2:])  # the recording starts from the crop
    return {"features": F.normalize(guidance.features(image), dim=1)}


@adapter("stylegan_t", "schedules")
def schedules(fixture: Fixture) -> Outputs:
    sigma = [sigma_at(init_sigma, kimg, images) for init_sigma, kimg, images in fixture.config["blur_cases"]]
    beta = [
        decay(EMA(half_life_kimg=kimg, ramp_up=ramp_up), batch_size, images)
        for batch_size, kimg, ramp_up, images in fixture.config["ema_cases"]
    ]
    return {
        "blur_sigma": torch.tensor(sigma, dtype=fixture.dtype),
        "ema_beta": torch.tensor(beta, dtype=fixture.dtype),
    }


@adapter("stylegan_t", "loss_phase")
def loss_phase(fixture: Fixture) -> Outputs:
    """A step of the trainer with the recording's networks: the generator is a constant, the others are average pools.

    The reference divides its adversarial losses, but not the guidance, by the batch once more. Here the guidance gets
    the batch's multiple as its weight, and what is recorded is divided by the batch.
    """
    config, size = fixture.config, fixture.config["img_resolution"]
    fake, real, c = (fixture.inputs[name] for name in ("gen_img", "real_img", "c_enc"))
    if real.shape[-1] > size:
        real = F.adaptive_avg_pool2d(real, size)
    logits: dict[str, Tensor] = {}
    losses: dict[str, Tensor] = {}
    gradients: list[Tensor] = []
    generator = StandInGenerator(fake)
    generator.image.register_hook(gradients.append)
    trainer = trainer_with(fixture, generator, StandInDiscriminator(config["d_pool"], config["d_gain"]))
    trainer.step = config["cur_nimg"] // len(fake)
    adversarial_loss, penalty = trainer.adversarial_loss, trainer.penalty

    def recorded_loss(optimizer: NetworkOptimizer, batch: Batch) -> tuple[Batch, Tensor]:
        batch, losses[optimizer.name] = adversarial_loss(optimizer, batch)
        if optimizer.name == "discriminator":
            logits.update(real=batch.real_logits, fake=batch.fake_logits)
        return batch, losses[optimizer.name]

    def recorded_penalty(regularizer: Any, batch: Batch) -> Tensor:
        losses[regularizer.name] = penalty(regularizer, batch)
        return losses[regularizer.name]

    trainer.adversarial_loss, trainer.penalty = recorded_loss, recorded_penalty  # type: ignore[method-assign]
    top, left = config.get("crop64", (0, 0))
    with mock.patch.object(open_clip, "random_crop", lambda x, side: x[:, :, top : top + side, left : left + side]):
        trainer.train_step(real.detach(), c.detach())
    batch = len(fake)
    assert isinstance(trainer.gan.augment, FadingBlur)
    return {
        "D.logits_fake": logits["fake"],
        "D.logits_real": logits["real"],
        "D.loss": losses["discriminator"] / batch,
        "G.loss": losses["generator"] / batch,
        "G.clip_loss": losses["clip-guidance"] / (batch * config["clip_weight"]),
        "G.dtotal_dgen_img": gradients[-1] / batch,
        "blur_sigma": torch.tensor(trainer.gan.augment.sigma, dtype=fixture.dtype),
    }


class StandInGenerator(nn.Module):
    """Returns one batch of images, whatever its latents."""

    z_dim = 4

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.image = nn.Parameter(image.detach().clone())
        self.mapping = nn.Identity()

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        return self.image


class StandInDiscriminator(nn.Module):
    """The recording's discriminator: an average pool times a number, flattened."""

    def __init__(self, pool: int, gain: float) -> None:
        super().__init__()
        self.pool = pool
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, image: Tensor, c: Tensor | None = None) -> Tensor:
        return (F.avg_pool2d(image, self.pool) * self.gain).flatten(1)


class StandInTower(nn.Module):
    """The recording's image tower: an average pool, flattened."""

    def __init__(self, pool: int) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, image: Tensor) -> Tensor:
        return F.avg_pool2d(image, self.pool).flatten(1)


def trainer_with(fixture: Fixture, generator: nn.Module, discriminator: nn.Module) -> Trainer:
    """A trainer with StyleGAN-T's loss, blur and guidance, and with these networks instead of its own."""
    config, batch = fixture.config, len(fixture.inputs["gen_img"])
    pool = config["clip_pool"]
    document = {
        "kind": "gan",
        "generator": {
            "kind": "layered",
            "z_dim": 4,
            "condition": {"kind": "open-clip-text", "embed_weights": True, **tiny_clip(pool)},
            "synthesis": [{"kind": "constant", "dim": 4, "resolution": config["img_resolution"]}, "to-rgb"],
        },
        "discriminator": {"kind": "layered", "steps": [{"kind": "from-rgb", "dim": 4}, "linear"]},
        "loss": "hinge",
        "regularizers": [{"kind": "clip-guidance", "weight": batch * config["clip_weight"], **tiny_clip(pool)}],
        "augment": {
            "kind": "fading-blur",
            "init_sigma": config["blur_init_sigma"],
            "fade_kimg": config["blur_fade_kimg"],
        },
        "generator_optimizer": NO_CHANGE,
        "discriminator_optimizer": NO_CHANGE,
        "batch_size": batch,
    }
    trainer = Trainer(parse(document), DistributedContext(str(torch.get_default_device())))
    with_stand_in_tower(trainer.gan.regularizers[0], pool, fixture.dtype)
    for name, network in (("generator", generator), ("discriminator", discriminator.to(fixture.dtype))):
        old = trainer.optimizers[name]
        adam = getattr(trainer.spec, f"{name}_optimizer")
        new = NetworkOptimizer(old.name, network, adam, [*old.main, *old.lazy])
        new.set_trainable(False)
        trainer.optimizers[name] = new
    trainer.discriminator = discriminator
    trainer.networks = trainer.main_networks = Networks(generator, discriminator, trainer.augment)
    trainer.generator, trainer.generator_ema = generator, ema_copy(generator)
    return trainer


def tiny_clip(pool: int) -> dict[str, Any]:
    """Options of a CLIP with random weights whose embeddings have the stand-in's size."""
    return {"model": open_clip.TINY | {"embed_dim": embed_dim(pool)}, "weights": None}


def embed_dim(pool: int) -> int:
    return 3 * (CLIP_SIZE // pool) ** 2


def with_stand_in_tower(guidance: Any, pool: int, dtype: torch.dtype) -> Any:
    """The guidance with the recording's image tower, and the preprocessing of OpenAI's CLIP."""
    guidance.tower, guidance.size = StandInTower(pool), (CLIP_SIZE, CLIP_SIZE)
    guidance.mean, guidance.std = torch.tensor(CLIP_MEAN, dtype=dtype), torch.tensor(CLIP_STD, dtype=dtype)
    return guidance

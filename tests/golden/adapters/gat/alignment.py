"""GAT's latents, and its alignment of the discriminator's tokens with a teacher, which has a stand-in here."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.images.latents import draw_latents
from blocks.families import Backbone
from blocks.regularizer.token_alignment import TokenAlignment, misalignment, resize_tokens
from ganblocks.metrics.generated import quantise
from tests.golden.adapters.gat.training import Recorded, adversarial_step, gradients, networks_of, recorded_noise
from tests.golden.fixtures import Fixture, Outputs, adapter

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class StandIn(Backbone, kind="golden-teacher"):
    """Patch tokens: averages of the cells of the normalised image, times a matrix; class token: mean of their tanh.

    Args:
        image_channels: Channels of the images.
        size: Height and width of the images.
        grid: Cells of each side.
        dim: Features of a token.
        mean: Mean that images in [0,1] are normalised with.
        std: Their standard deviation.
    """

    def __init__(
        self,
        image_channels: int = 3,
        *,
        size: int,
        grid: int,
        dim: int,
        mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
    ) -> None:
        super().__init__()
        self.input_size, self.grid = (size, size), grid
        mean64, std64 = (torch.tensor(each, dtype=torch.float64).view(-1, 1, 1) for each in (mean, std))
        self.scale, self.shift = 0.5 / std64, (0.5 - mean64) / std64
        self.weight = nn.Parameter(torch.zeros(dim, image_channels), requires_grad=False)

    def normalized(self, image: Tensor) -> Tensor:
        return image * self.scale.to(image.dtype) + self.shift.to(image.dtype)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        patches = F.adaptive_avg_pool2d(self.normalized(image), self.grid).flatten(2).mT @ self.weight.mT
        return (torch.cat([patches.tanh().mean(dim=1, keepdim=True), patches], dim=1),)


@adapter("gat", "alignment")
def alignment(fixture: Fixture) -> Outputs:
    inputs = fixture.inputs
    tokens = torch.cat([inputs["feat_cls"], inputs["feat_spatial"]], dim=1)
    targets = torch.cat([inputs["teacher_cls"][:, None], inputs["teacher_patch"]], dim=1)
    of_class, of_patches = misalignment(tokens, targets)
    loss = fixture.config["proj_coeff"] * (of_class + of_patches)
    return {"align_class": of_class, "align_patch": of_patches, "loss": loss} | gradients(fixture, loss.mean())


@adapter("gat", "resize_tokens")
def resized(fixture: Fixture) -> Outputs:
    side = fixture.config["resolution"]
    assert fixture.inputs["x"].shape[1] == fixture.config["tokens"]
    return {"y": resize_tokens(fixture.inputs["x"], (224, 224), side**2, (side, side))}


@adapter("gat", "latents")
def latents(fixture: Fixture) -> Outputs:
    config, inputs = fixture.config, fixture.inputs
    factors = {"scaling_factor": config["scale"], "shift_factor": -config["bias"] / config["scale"]}
    return {
        "latents": draw_latents(inputs["moments"], inputs["noise"], **factors),
        "bytes_generate": quantise(inputs["decoded"], "symmetric", "floor"),
        "bytes_metrics": quantise(inputs["decoded"], "symmetric", "round"),
    }


@adapter("gat", "teacher_targets")
def teacher_targets(fixture: Fixture) -> Outputs:
    config, side = fixture.config, fixture.config["latent_resolution"]
    block = aligned(fixture, statistics={"mean": config["mean"], "std": config["std"]})
    augment = Recorded({"policy": "color,translation,cutout,flip"}, fixture.inputs, 4)
    draws = augment.draw(torch.zeros(3, 4, side, side))
    view = block.view(as_images(fixture.inputs["raw_images"], fixture.dtype), augment, draws, torch.Size((side, side)))
    teacher: Any = block.teacher
    tokens = teacher(view)[-1]
    return {
        "corner": teacher.normalized(view)[:, :, :10, :10],
        "patch_tokens": tokens[:, 1:],
        "class_token": tokens[:, 0],
    }


@adapter("gat", "discriminator_step_aligned")
def discriminator_step_aligned(fixture: Fixture) -> Outputs:
    config, real = fixture.config, fixture.inputs["images"].detach()
    outputs = adversarial_step(fixture)
    block, networks = aligned(fixture), networks_of(fixture, "real")
    augment, c = networks.augment, fixture.condition(config["D"]["num_classes"], "y")
    draws = augment.draw(real)  # type: ignore[attr-defined]
    view = block.view(as_images(fixture.inputs["raw_images"], fixture.dtype), augment, draws, real.shape[2:])
    discriminator: Any = networks.discriminator
    with recorded_noise(fixture.inputs["noise_real"], None):
        tokens = discriminator.projected_tokens(augment(real), c)
    of_class, of_patches = misalignment(tokens, block.targets(view, tokens.shape[1], real.shape[2:]))
    loss = outputs["loss"] + config["proj_coeff"] * (of_class + of_patches)
    outputs |= {"align_class": of_class, "align_patch": of_patches, "loss": loss}
    return outputs | gradients(fixture, loss.mean())


def aligned(fixture: Fixture, statistics: dict[str, Any] | None = None) -> TokenAlignment:
    """The regularizer with the recording's teacher."""
    config, weight = fixture.config, fixture.tensors["T.weight"].detach()
    options = {"size": config["raw_size"], "grid": config["teacher_grid"], "dim": len(weight), **(statistics or {})}
    policy = tuple(name for name in config["raw_policy"].split(",") if name)
    block = TokenAlignment(teacher=StandIn.Spec(**options), teacher_policy=policy)
    block.teacher.weight.data = weight
    return block


def as_images(raw: Tensor, dtype: torch.dtype) -> Tensor:
    """Bytes as images in [-1,1]."""
    return raw.to(dtype) / 127.5 - 1

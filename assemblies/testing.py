"""How the conformance suite calls whole networks: generators, discriminators, GANs and trainings of several stages.

`registry.testing` finds the harnesses here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from blocks.common.computed_buffer import reset_buffers
from blocks.testing import BATCH, JUDGED, condition, image
from registry.testing.harness import ContextValues, Harness, Inputs, Shape

WHOLE: dict[str, ContextValues] = {"whole": {}}


def latents(generator: Any) -> Inputs:
    """The inputs of a generator: z, and c if it has a condition."""
    return {"z": torch.randn(BATCH, generator.z_dim), "c": condition({"cond_dim": generator.cond_dim})}


def images(generator: Any) -> Shape:
    """The shape of a generator's images."""
    return BATCH, generator.image_channels, *generator.resolution


def images_and_logits(gan: Any, z: Tensor, c: Tensor | None) -> tuple[Tensor, ...]:
    """The images of a GAN's generator and their logits."""
    generated = gan.generator(z, c)
    return generated, gan.discriminator(generated, c)


FAMILIES: dict[str, Harness] = {
    "generator": Harness(
        inputs=lambda block, context: latents(block),
        shapes=lambda block, context, inputs: (images(block),),
        features={"z": 1, "c": 1},
        needed=("c",),
        contexts=WHOLE,
    ),
    "discriminator": Harness(
        inputs=lambda block, context: {"image": image(context), "c": condition(context)},
        shapes=lambda block, context, inputs: ((BATCH, ...),),
        features={"image": 1, "c": 1},
        needed=("c",),
        contexts=JUDGED,
    ),
    "gan": Harness(
        inputs=lambda block, context: latents(block.generator),
        shapes=lambda block, context, inputs: (images(block.generator), (BATCH, ...)),
        contexts=WHOLE,
        call=images_and_logits,
        traceable=False,  # its networks are compiled one by one
    ),
    "multi-stage": Harness(
        inputs=lambda block, context: latents(block.gans[0].generator),
        shapes=lambda block, context, inputs: tuple(
            shape for gan in block.gans for shape in (images(gan.generator), (BATCH, ...))
        ),
        contexts=WHOLE,
        call=lambda block, z, c: tuple(each for gan in block.gans for each in images_and_logits(gan, z, c)),
        traceable=False,
    ),
}
HARNESSES = {family: replace(harness, reset_buffers=reset_buffers) for family, harness in FAMILIES.items()}

"""torch.compile for the networks of a training.

torch.compile has no second derivative. Phases that need one call the same modules uncompiled. Compiled functions share
the modules, so that parameters, buffers and the names in checkpoints are the same.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from blocks.families import Networks
from ganblocks.training.generator import TrainingGenerator

BACKEND = "inductor"


def compiled(networks: Networks) -> Networks:
    """The networks, compiled at their first call; the augmentation, whose options may change each step, is not."""
    generator, discriminator = networks.generator, networks.discriminator
    assert isinstance(generator, TrainingGenerator)
    assert isinstance(discriminator, nn.Module)
    return networks._replace(
        generator=TrainingGenerator(
            generator.generator,
            style_mixing=generator.style_mixing,
            trains_condition=generator.trains_condition,
            compile=compile_network,
        ),
        discriminator=compile_network(discriminator),
    )


def compile_network(network: nn.Module) -> Callable[..., Tensor]:
    """The forward pass of a network, compiled for each combination of shapes and gradients that occurs."""
    forward: Callable[..., Tensor] = torch.compile(network, backend=BACKEND, dynamic=False)
    return forward

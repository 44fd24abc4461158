"""How the conformance suite calls augmentations, losses and regularizers."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from blocks.families import Batch, Networks
from blocks.families.training import scalar
from registry.kernels import is_transformed
from registry.testing.cases import Case


def is_the_identity_in_eval_mode(case: Case) -> None:
    """In eval mode an augmentation returns its images unchanged."""
    module = case.build().eval()
    inputs = case.inputs(module)
    torch.testing.assert_close(case.run(module, inputs), (inputs["image"],), rtol=0, atol=0)


def both_losses(block: Any, real: Tensor, fake: Tensor) -> Any:
    """The generator's and the discriminator's loss."""
    losses = {"generator": block.generator(fake, real), "discriminator": block.discriminator(real, fake)}
    return tuple(scalar(block, loss, name) for name, loss in losses.items())


def unwatched(output: Tensor) -> Tensor:
    """The output of a network, for penalties that nobody watches."""
    return output


def penalty(
    block: Any,
    real: Tensor,
    fake: Tensor,
    z: Tensor,
    c: Tensor,
    to_logit: Tensor,
    to_image: Tensor,
    watched: Callable[[Tensor], Tensor] = unwatched,
) -> Any:
    """A regularizer's value for networks of one matrix each; the matrices are inputs, so that they get gradients.

    `watched` is applied to the outputs of both networks.
    """

    def discriminator(image: Tensor, c: Tensor | None = None) -> Tensor:
        return watched((image.flatten(1) @ to_logit).tanh()).sum(dim=1)

    def synthesis(ws: Tensor) -> Tensor:
        return watched((ws.flatten(1) @ to_image).tanh()).view(-1, *fake.shape[1:])

    def projected_tokens(image: Tensor, c: Tensor | None = None) -> Tensor:
        tokens = watched((image.flatten(1) @ to_logit).tanh())
        return tokens[:, None].expand(-1, 5, -1)  # a class token and 2 x 2 patches

    discriminator.projected_tokens = projected_tokens  # type: ignore[attr-defined]
    generator: Any = SimpleNamespace(mapping=lambda z, c=None: z[:, None], synthesis=synthesis)
    networks = Networks(generator, discriminator, augment=lambda x: x.flip(3))
    return block(networks, Batch(real, fake, z, c, discriminator(real), discriminator(fake)))


def declares_second_derivatives(case: Case) -> None:
    """A regularizer that differentiates a network's gradient declares `second_order`: some kernels have none."""
    module = case.build()
    differentiable: list[bool] = []

    def watched(output: Tensor) -> Tensor:
        if output.requires_grad and not is_transformed():
            hooked: Any = output
            hooked.register_hook(lambda gradient: differentiable.append(torch.is_grad_enabled()))
        return output

    penalty(module.block, **case.inputs(module), watched=watched)  # type: ignore[arg-type]
    assert module.block.second_order or not any(differentiable), (
        "differentiates a network's gradient (create_graph=True); declare second_order = True"
    )

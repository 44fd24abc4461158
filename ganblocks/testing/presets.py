"""Checks of presets: a preset fits together, and its networks can be trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import SkipTest

import torch

from assemblies import GAN, check, parse
from assemblies.discriminator import Discriminator
from assemblies.multi_stage import MultiStage
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.trainer import Trainer
from registry import Spec, SpecError

BATCH_SIZE = 4
RESOLUTION = (16, 16)  # of the images for a discriminator alone
MAX_MULTIPLY_ADDS = 10**10  # of an image; larger networks need too long for a test on a CPU
CAPTION = "a photo of a bird"


def fits_together(name: str, document: Callable[[], Any]) -> None:
    """The document is valid, its blocks fit together, and its docstring says what it is."""
    assert (document.__doc__ or "").strip(), "has no docstring, whose first line `ganblocks presets` shows"
    spec = parse(document(), subject=name)
    try:
        check(spec, **_resolution(spec))
    except SpecError as error:
        raise AssertionError(str(error.about(name))) from None


def trains_one_step(name: str, document: Callable[[], Any]) -> None:
    """A training step on random images gives finite weights; for a network alone, the backward pass does.

    Batches have 4 images. Documents that name weights or networks of more than 10 billion multiply-adds for an image
    are left out.
    """
    spec = parse(document(), subject=name)
    size = sum(trace.multiply_adds for trace in check(spec, **_resolution(spec)).values())
    if size > MAX_MULTIPLY_ADDS:
        raise SkipTest(f"an image takes {size:,} multiply-adds; the limit of this check is {MAX_MULTIPLY_ADDS:,}")
    torch.manual_seed(0)
    if isinstance(spec, MultiStage.Spec):
        for stage in spec.stages:
            _train(stage.gan)
    elif isinstance(spec, GAN.Spec):
        _train(spec)
    elif issubclass(spec.block, Discriminator):
        _differentiate(spec.build(resolution=RESOLUTION, image_channels=3, cond_dim=0, value_range="symmetric"))
    else:
        _differentiate(spec.build())


def _resolution(spec: Spec) -> dict[str, Any]:
    return {"resolution": RESOLUTION} if issubclass(spec.block, Discriminator) else {}


def _train(spec: Spec) -> None:
    small = parse(spec.to_dict() | {"batch_size": BATCH_SIZE}, GAN)
    trainer = Trainer(small, DistributedContext("cpu"))
    generator = trainer.generator
    real = torch.rand(BATCH_SIZE, generator.image_channels, *generator.resolution) * 2 - 1
    trainer.train_step(real, _condition(generator))
    assert not (skipped := trainer.non_finite.read()), f"gradients are not finite: {', '.join(skipped)}"
    _check_finite(trainer.gan)


def _condition(generator: Any) -> torch.Tensor | None:
    condition = getattr(generator, "condition", None)
    if condition is None and not generator.cond_dim:
        return None
    captions = condition is not None and condition.condition_input == "captions"
    c: torch.Tensor = generator.condition_of([CAPTION if captions else 0] * BATCH_SIZE)
    return c


def _differentiate(network: Any) -> None:
    if isinstance(network, Discriminator):
        outputs = network(torch.rand(BATCH_SIZE, 3, *RESOLUTION) * 2 - 1)
    else:
        outputs = network(torch.randn(BATCH_SIZE, network.z_dim), _condition(network))
    outputs.square().mean().backward()
    assert outputs.isfinite().all(), "the outputs are not finite"
    _check_finite(network)


def _check_finite(network: torch.nn.Module) -> None:
    for name, parameter in network.named_parameters():
        assert parameter.isfinite().all(), f"{name} is not finite after a step"
        assert parameter.grad is None or parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"

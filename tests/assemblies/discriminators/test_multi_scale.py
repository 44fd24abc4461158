"""The discriminator of several image scales."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from assemblies import MultiScaleDiscriminator, check, parse
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.trainer import Trainer
from registry import IncompatibleError
from tests import tiny

PATCHES = {"kind": "layered", "steps": [{"kind": "from-rgb", "dim": 4}, "patch"]}
THREE = {"kind": "multi-scale", "discriminators": [tiny.DISCRIMINATOR, PATCHES, PATCHES]}


def test_each_discriminator_scores_the_image_at_its_scale() -> None:
    network = MultiScaleDiscriminator(16, 3, discriminators=THREE["discriminators"]).eval()
    image = torch.rand(2, 3, 16, 16)
    scaled = (image, F.avg_pool2d(image, 2), F.avg_pool2d(image, 4))
    expected = [each(x).flatten(1) for each, x in zip(network.discriminators, scaled, strict=True)]
    torch.testing.assert_close(network(image), torch.cat(expected, dim=1))
    assert network(image).shape == (2, 1 + 64 + 16)


def test_all_scales_are_trained() -> None:
    document = parse(tiny.gan(discriminator=THREE))
    trace = check(document)["discriminator"]
    assert trace.steps[-1].path == ("discriminator", "discriminators", 2, "steps", 1)
    trainer = Trainer(document, DistributedContext("cpu"))
    assert trace.parameters == sum(parameter.numel() for parameter in trainer.discriminator.parameters())
    before = {name: value.clone() for name, value in trainer.discriminator.named_parameters()}
    trainer.train_step(torch.rand(8, 3, 16, 16) * 2 - 1, None)
    assert all(not torch.equal(value, before[name]) for name, value in trainer.discriminator.named_parameters())


def test_problems_of_all_scales_are_reported_with_their_paths() -> None:
    headless = {"kind": "layered", "steps": [{"kind": "from-rgb", "dim": 4}]}
    with pytest.raises(IncompatibleError) as info:
        MultiScaleDiscriminator(2, 3, discriminators=[headless, headless, PATCHES])
    assert [problem.path for problem in info.value.problems] == [
        ("discriminators", 0, "steps"),
        ("discriminators", 1, "steps"),
        ("discriminators", 2),
    ]

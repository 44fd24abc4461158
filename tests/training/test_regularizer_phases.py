"""Regularizers in training steps: adaptive augmentations of their own, trained conditions, averaged weight norms."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from assemblies import parse
from blocks.augment.ada import ADA
from blocks.families import Batch, Networks
from blocks.regularizer.path_length import PathLength
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.step.shared_logits import shared_images
from ganblocks.training.trainer import Trainer
from registry import IncompatibleError
from tests import tiny
from tests.toys import LossOfImages, UndeclaredPenalty, installed

ADAPTIVE = {"kind": "ada", "interval": 1, "kimg": 0.05, "policy": ["color"]}


def trainer_of(**changes: Any) -> Trainer:
    torch.manual_seed(0)
    return Trainer(parse(tiny.gan(**changes)), DistributedContext("cpu"))


def train_confident(trainer: Trainer, steps: int) -> None:
    """Training steps of a discriminator that calls every image real, as it does when it overfits."""
    with torch.no_grad():
        trainer.discriminator.steps[-1].out.bias.fill_(100.0)
    for _ in range(steps):
        trainer.train_step(torch.rand(8, 3, 16, 16) * 2 - 1, None)


@pytest.mark.parametrize(
    ("beside", "every"), [(None, 1), (None, 2), ("diffaugment", 1), (ADAPTIVE, 1), (ADAPTIVE | {"kimg": 500.0}, 2)]
)
def test_the_adaptive_augmentation_of_balanced_consistency_adapts(beside: Any, every: int) -> None:
    bcr = {"kind": "bcr", "augment": ADAPTIVE, "every": every}
    trainer = trainer_of(regularizers=[bcr], augment=beside)
    ada = trainer.gan.regularizers[0].augment
    assert isinstance(ada, ADA)
    train_confident(trainer, 4)
    assert ada.p.item() == pytest.approx(4 * 8 / 50)
    trainer.losses.read()
    train_confident(trainer, 2)
    assert trainer.losses.read()["bcr"] > 0


def test_an_adaptive_augmentation_that_adapts_slower_has_another_probability() -> None:
    bcr = {"kind": "bcr", "augment": ADAPTIVE}
    trainer = trainer_of(regularizers=[bcr], augment=ADAPTIVE | {"kimg": 0.5})
    train_confident(trainer, 4)
    assert trainer.gan.augment.p.item() == pytest.approx(4 * 8 / 500)


SHARED = ["r1", {"kind": "r2", "gamma": 2.0}]


def test_r1_and_r2_of_every_step_share_the_passes_of_the_loss() -> None:
    recorded = []
    for shared in (["fake", "real"], []):
        trainer, gradients = trainer_of(regularizers=SHARED, augment=None), {}
        passes: list[int] = []
        trainer.discriminator.register_forward_hook(lambda *_, passes=passes: passes.append(1))
        adam = trainer.optimizers["discriminator"].adam
        named = trainer.optimizers["discriminator"].parameters
        adam.register_step_pre_hook(
            lambda *_, gradients=gradients, named=named: gradients.update(
                {name: value.grad.clone() for name, value in named.items()}
            )
        )
        assert trainer.shared == ["fake", "real"]
        trainer.shared = shared
        trainer.train_step(torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1, None)
        recorded.append((len(passes), gradients, trainer.losses.read()))
    (few, gradients, losses), (many, expected, expected_losses) = recorded
    assert (few, many) == (3, 5)
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    for name, gradient in gradients.items():
        largest = expected[name].abs().max()
        torch.testing.assert_close(gradient / largest, expected[name] / largest, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        ({"regularizers": ["r2"], "augment": None}, ["fake"]),
        ({"regularizers": SHARED}, []),  # each pass has other augmented copies
        ({"regularizers": ["approximate-r1", {"kind": "r1", "every": 2}], "augment": None}, []),
    ],
)
def test_passes_are_shared_where_the_penalty_is_at_the_same_logits(changes: dict[str, Any], shared: list[str]) -> None:
    assert trainer_of(**changes).shared == shared


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"compiled": True}])
def test_no_passes_are_shared_where_only_the_penalty_is_in_float32_or_uncompiled(options: dict[str, Any]) -> None:
    penalties = trainer_of(regularizers=SHARED, augment=None).optimizers["discriminator"].main
    assert shared_images(penalties, torch.nn.Identity(), **{"precision": "fp32", "compiled": False} | options) == []


class Encoder(torch.nn.Module):
    """A generator that encodes tokens itself: ws = z + the embedding of the token."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(5, 60).double()

    def mapping(self, z: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        assert not tokens.is_floating_point()
        return (z + self.embedding(tokens))[:, None]

    def synthesis(self, ws: torch.Tensor) -> torch.Tensor:
        return ws[:, 0].square().view(-1, 3, 4, 5)


def test_path_length_takes_as_many_tokens_as_latents() -> None:
    encoder, z = Encoder(), torch.randn(4, 60, dtype=torch.float64)
    networks = Networks(encoder, torch.nn.Identity(), torch.nn.Identity())
    batch = Batch(z=z, c=torch.zeros(4, 7), tokens=torch.tensor([1, 2, 3, 4]))
    path_length = PathLength(batch_shrink=2).double()
    path_length(networks, path_length.select(batch)).backward()
    used = encoder.embedding.weight.grad.abs().sum(dim=1) > 0
    assert used.tolist() == [False, True, True, False, False]


def test_path_length_trains_the_condition_of_the_text_encoder_phase() -> None:
    model = {
        "embed_dim": 6,
        "vision_cfg": {"image_size": 8, "layers": 1, "width": 8, "head_width": 4, "patch_size": 4},
        "text_cfg": {"context_length": 5, "vocab_size": 49408, "width": 4, "heads": 2, "layers": 1},
    }
    condition = {"kind": "open-clip-text", "model": model, "embed_weights": True}
    trainer = trainer_of(
        generator=tiny.GENERATOR | {"condition": condition},
        trainable="text-encoder",
        regularizers=[{"kind": "path-length", "every": 2, "batch_shrink": 2}],
        augment=None,
    )
    encoder = trainer.generator.condition
    tokens = encoder.read(["a red bird", "seven"] * 4)
    with torch.no_grad():
        c = encoder(tokens)
    before = {name: value.clone() for name, value in encoder.named_parameters()}
    path_length = trainer.gan.regularizers[0]
    for _ in range(2):
        trainer.train_step(torch.rand(8, 3, 16, 16), c, tokens)
    assert path_length.mean > 0
    assert trainer.losses.read()["path-length"] > 0
    assert any(not torch.equal(value, before[name]) for name, value in encoder.named_parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "loss-of-images"}, r"  loss   discriminator of loss-of-images returns a tensor of shape \[8, 1\]; a"),
        (
            {"regularizers": ["r1", "undeclared-penalty"]},
            r"  regularizers\.1   undeclared-penalty differentiates .* not implemented\); set second_order = True",
        ),
    ],
)
def test_a_block_that_breaks_its_contract_is_named_with_its_place(changes: dict[str, Any], message: str) -> None:
    with installed(LossOfImages, UndeclaredPenalty):
        trainer = trainer_of(**changes)
    with pytest.raises(IncompatibleError, match=message):
        trainer.train_step(torch.rand(8, 3, 16, 16) * 2 - 1, None)

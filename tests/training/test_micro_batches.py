"""Gradient accumulation: the gradients of micro-batches add up to those of the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from blocks.families import Regularizer
from ganblocks.training.trainer import Trainer
from plugins.open_clip import TINY
from registry import catalogue
from tests import tiny
from tests.training.conftest import new_trainer, real_images

catalogue.load()
LOSSES = [entry.block.kind for entry in catalogue.entries("loss")]
REGULARIZERS = [entry.block for entry in catalogue.entries("regularizer")]
NO_STATISTICS = [step for step in tiny.DISCRIMINATOR["steps"] if step["kind"] != "minibatch-std"]
PAIRS_OF_A_PASS = ("matching-aware",)  # it pairs images with conditions of other images of the same pass
LEVELS = {
    "kind": "layered",
    "z_dim": 8,
    "synthesis": [
        {"kind": "sinusoidal-tokens", "dim": 8, "resolution": 8},
        {"kind": "modulated-patches", "patch_size": 2},
        {"kind": "modulated-patches", "patch_size": 2},
    ],
    "multi_level": True,
}
PROJECTING = {
    "kind": "layered",
    "steps": [
        {"kind": "noised-levels", "dim": 8, "num_levels": 2},
        {"kind": "token-projector", "dim": 4, "projector_dim": 8},
        {"kind": "transformer", "attention": {"kind": "dense", "num_heads": 2}},
        {"kind": "class-projection", "embed_dim": 4},
    ],
}
ADA = {"kind": "ada", "kimg": 0.1, "interval": 1, "target": -0.9, "p": 0.3, "policy": ["color", "cutout"]}


class DrawsByImage(TorchFunctionMode):
    """Random numbers as a function of the image and of the number of the call since the part began.

    Args:
        total: Images of the whole batch.
        first: The first one of this process.
    """

    def __init__(self, total: int, first: int = 0) -> None:
        super().__init__()
        self.total, self.offset = total, first
        self.begin(0, total - first)

    def begin(self, first: int, size: int) -> None:
        """Begin a part of this process's images."""
        self.first, self.size, self.calls = self.offset + first, size, count()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        normal = function in (torch.randn, torch.randn_like)
        if not normal and function not in (torch.rand, torch.rand_like, torch.randint):
            return result
        generator = torch.Generator().manual_seed(next(self.calls))
        axis = next((axis for axis, length in enumerate(result.shape[:2]) if length == self.size), None)
        shape = list(result.shape)
        if axis is not None:
            shape[axis] = self.total
        draw = torch.randn if normal else torch.rand
        with torch._C.DisableTorchFunction():
            values = draw(shape, generator=generator, dtype=torch.float64)
            values = values if axis is None else values.narrow(axis, self.first, self.size)
            if function is torch.randint:
                bounds = [each for each in args if isinstance(each, int)]
                low, high = bounds if len(bounds) == 2 else (0, bounds[0])
                values = (low + values * (high - low)).floor()
            return values.to(result)


def gradients(
    trainer: Trainer, real: Tensor, c: Tensor | None = None, total: int = 8, offset: int = 0
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gradients of every optimizer step of one training step, and the buffers after it."""
    found: dict[str, Tensor] = {}
    steps = count()
    for optimizer in trainer.optimizers.values():

        def keep(_: object = None, __: object = None, ___: object = None, optimizer: Any = optimizer) -> None:
            step = next(steps)
            found.update({f"{step} {name}": value.clone() for name, value in optimizer.gradients().items()})

        optimizer.adam.register_step_pre_hook(keep)
    draws, split = DrawsByImage(total, offset), trainer.micro_batches.parts

    def parts(batch: Any) -> Iterator[Any]:
        first = 0
        for part, share in split(batch):
            length = next(len(each) for each in part if each is not None)
            draws.begin(first, length)
            yield part, share
            first += length
        draws.begin(0, len(real))

    trainer.micro_batches.parts = parts  # type: ignore[method-assign]
    draws.begin(0, len(real))
    with draws:
        trainer.train_step(real, c)
    return found, {**dict(trainer.gan.named_buffers()), **trainer.generator_ema.state_dict(prefix="ema.")}


def largest_difference(values: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    """Relative to the maximum of each array."""
    assert values.keys() == others.keys()
    pairs = [(value, others[name]) for name, value in values.items() if value.is_floating_point() and value.numel()]
    return max(((a - b).abs().max() / b.abs().max().clamp_min(1e-12)).item() for a, b in pairs if b.isfinite().all())


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def document(**changes: Any) -> dict[str, Any]:
    return tiny.gan(discriminator=tiny.DISCRIMINATOR | {"steps": NO_STATISTICS}) | changes


def compare(spec: dict[str, Any], size: int = 3, c: Tensor | None = None) -> float:
    """The largest difference between a step in micro-batches and one of the whole batch of 8 images."""
    torch.manual_seed(1)
    real = real_images(8)
    whole, parts = (gradients(new_trainer(spec, micro_batch=each), real, c) for each in (None, size))
    assert len(whole[0]) > 20
    return max(largest_difference(*pair) for pair in zip(parts, whole, strict=True))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradients_of_every_loss_are_those_of_the_whole_batch(loss: str) -> None:
    assert compare(document(loss=loss, regularizers=[])) < 1e-6


def cases() -> list[Any]:
    """The first example of each regularizer in the main phase and in one of its own."""
    return [
        pytest.param({"kind": block.kind} | block.examples[0]["spec"] | {"every": every}, id=f"{block.kind}-{every}")
        for block in REGULARIZERS
        for every in ((1, 2) if block.needs_batch_mean else (2,) if block.second_order else (1,))
        if block.kind not in PAIRS_OF_A_PASS
    ]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("regularizer", cases())
def test_the_gradients_of_every_regularizer_are_those_of_the_whole_batch(regularizer: Any) -> None:
    spec, c, size = document(regularizers=[regularizer], augment=ADA), None, 3
    if regularizer["kind"] == "token-alignment":
        spec, size = spec | {"generator": LEVELS, "discriminator": PROJECTING}, 4  # more images than levels
    if regularizer["kind"] == "clip-guidance":
        condition = {"kind": "open-clip-text", "model": TINY, "weights": None, "embed_weights": True}
        spec["generator"], c = spec["generator"] | {"condition": condition}, torch.randn(8, TINY["embed_dim"])
    assert compare(spec, size, c) < 1e-6


def test_micro_batches_in_float32_agree_up_to_rounding() -> None:
    assert compare(document(regularizers=["r1", {"kind": "path-length", "batch_shrink": 1, "every": 2}])) < 1e-5


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("weight_norm", ["spectral-norm", "improved-spectral-norm"])
def test_singular_vectors_move_once_per_batch(weight_norm: str) -> None:
    discriminator = tiny.DISCRIMINATOR | {"steps": NO_STATISTICS, "weight_norm": weight_norm}
    assert compare(document(discriminator=discriminator)) < 1e-6


@pytest.mark.usefixtures("double")
def test_minibatch_std_takes_its_groups_from_micro_batches() -> None:
    assert compare(tiny.gan()) > 1e-3


def test_the_first_round_over_micro_batches_draws_what_the_second_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = document(regularizers=[{"kind": "path-length", "batch_shrink": 1, "every": 2}], style_mixing=0.5)
    trainer = new_trainer(spec, micro_batch=4)
    (path_length,) = trainer.gan.regularizers
    rounds: list[Tensor] = []
    original: Callable[..., Tensor] = path_length.penalties

    def penalties(lengths: Tensor, batch_mean: Tensor) -> Tensor:
        rounds.append(lengths.detach())
        return original(lengths, batch_mean)

    monkeypatch.setattr(path_length, "penalties", penalties)
    trainer.train_step(real_images(), None)
    assert torch.equal(torch.stack(rounds[:2]), torch.stack(rounds[2:]))
    torch.testing.assert_close(path_length.mean, 0.01 * torch.cat(rounds[2:]).mean())


def test_losses_in_the_log_are_those_of_the_whole_batch() -> None:
    real, logs = real_images(8), []
    for size in (None, 3):
        trainer = new_trainer(document(regularizers=[], augment=None), micro_batch=size)
        trainer.train_step(real, None)
        logs.append(trainer.losses.read())
    assert logs[0].keys() == logs[1].keys()
    assert logs[1]["logits/real"] == pytest.approx(logs[0]["logits/real"], rel=1e-5)


def test_regularizers_select_their_part_before_the_batch_is_split() -> None:
    assert any(block.select is not Regularizer.select for block in REGULARIZERS)

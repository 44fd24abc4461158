"""No training step reads a value from the device: a GPU would have to finish its queue first."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from assemblies import GAN, check, read
from ganblocks.data.loader import Sampler, batches
from ganblocks.data.sources import open_data
from ganblocks.pixels import from_bytes
from ganblocks.training.checkpoint import checkpoint_tensors
from ganblocks.training.conditions import ConditionEncoder
from ganblocks.training.generator import TrainingGenerator
from ganblocks.training.trainer import Trainer
from registry import catalogue
from tests import tiny
from tests.training.conftest import EAGER, new_trainer, real_images

aten = torch.ops.aten
READS = {
    aten._local_scalar_dense.default: "item(), bool(), int() or float()",
    aten.equal.default: "torch.equal",
    aten.nonzero.default: "nonzero",
    aten.masked_select.default: "masked_select",
    aten.lift_fresh.default: "torch.tensor, which waits for its copy to the device",
}


class NoReads(TorchDispatchMode):
    """A context in which operations raise that make the host wait for a device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        masks = func is aten.index.Tensor and any(index is not None and not index.dtype.is_signed for index in args[1])
        if func in READS or masks:
            raise AssertionError(f"the host waits for the device: {READS.get(func, 'an index by a mask')}")
        return func(*args, **(kwargs or {}))


@contextmanager
def no_reads(monkeypatch):
    """A context in which training steps must not read values, but for draws and schedules on the CPU."""

    def on_the_cpu(function):
        def call(*args):
            with _disable_current_modes():
                return function(*args)

        return call

    with monkeypatch.context() as patch, NoReads():
        for owner, name in ((TrainingGenerator, "draw_crossover"), (Trainer, "follow_schedules")):
            patch.setattr(owner, name, on_the_cpu(getattr(owner, name)))
        yield


MINI = sorted(name for name in catalogue.presets() if name.startswith("mini-"))


def smaller(preset):
    """A preset with regularizers in every step or every second one, and few images in a batch."""
    document = read(preset, GAN).to_dict()
    for regularizer in document["regularizers"]:
        regularizer["every"] = min(regularizer["every"], 2)
    return document | {"batch_size": 4}


def places_of_state(trainer):
    """Where the tensors lie that a step changes, by name."""
    meters = {"losses": trainer.losses, "signals": trainer.signals}
    counted = {f"{name}.{key}": value for name, meter in meters.items() for key, value in meter.sums.items()}
    counted |= {str(key): value for key, value in trainer.non_finite.counts.items()}
    counted |= {"in a row": trainer.non_finite.in_a_row, "longest": trainer.non_finite.longest}
    return {name: value.data_ptr() for name, value in (checkpoint_tensors(trainer) | counted).items()}


@pytest.mark.parametrize("preset", MINI)
def test_a_training_step_does_not_wait_for_the_device(preset, monkeypatch):
    trainer = new_trainer(smaller(preset))
    generator = trainer.generator
    channels, height, width = check(trainer.spec)["generator"].image
    images = open_data("digits", resolution=(height, width), image_channels=channels, cond_dim=generator.cond_dim)
    stream = batches(images, Sampler(len(images), 0), position=0, batch_size=4)
    conditions = ConditionEncoder(generator, images, torch.device("cpu"))
    places = []
    for _ in range(4):
        batch = next(stream)
        with no_reads(monkeypatch):
            trainer.train_step(from_bytes(batch.images, generator.value_range), conditions.encode(batch))
        places.append(places_of_state(trainer))
    assert trainer.step == 4
    assert places[1] == places[3]  # steps change tensors in place, so that a CUDA graph can repeat them
    assert trainer.losses.read()["discriminator"] > 0


def test_mixed_styles_clipped_gradients_and_gradient_penalties_do_not_wait_for_the_device(monkeypatch):
    for document in (EAGER, tiny.gan(style_mixing=0.9, discriminator_optimizer={"clip_norm": 0.5}, freeze_d=1)):
        trainer = new_trainer(document)
        c = torch.eye(10)[:8] if trainer.generator.cond_dim else None
        for _ in range(3):
            with no_reads(monkeypatch):
                trainer.train_step(real_images(), c)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.isfinite().all()),
        lambda x: x[x > 0],
        lambda x: torch.equal(x, x),
        lambda x: torch.tensor([1.0, 2.0]),
    ],
    ids=["item", "bool", "mask", "equal", "tensor"],
)
def test_reads_are_found(read, monkeypatch):
    x = torch.ones(3)
    with no_reads(monkeypatch), pytest.raises(AssertionError, match="the host waits for the device"):
        read(x)

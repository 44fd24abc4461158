"""Schedules: their values, and options that take a number or a schedule."""

from __future__ import annotations

import pytest
import torch

from assemblies import EMA, Adam
from blocks.augment.ada import ADA
from blocks.families import Schedule, value_at
from blocks.regularizer.r1 import R1
from blocks.schedule.constant import ConstantSchedule
from blocks.schedule.cosine import CosineSchedule
from blocks.schedule.linear import LinearSchedule
from blocks.schedule.step import StepSchedule
from registry import IncompatibleError, SpecError

COSINE = {"kind": "cosine", "init": 0.9, "final": 0.99, "kimg": 20_000}


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (ConstantSchedule(value=0.3), [0.3, 0.3, 0.3, 0.3]),
        (LinearSchedule(init=1, final=0, kimg=2, start_kimg=1), [1, 1, 0.5, 0]),
        (CosineSchedule(init=2, final=0.2, kimg=2), [2, 1.1, 0.2, 0.2]),
        (CosineSchedule(init=2, final=1, kimg=3, warmup_kimg=1, warmup_init=0.5, hold_kimg=1), [0.5, 2, 2, 1]),
        (StepSchedule(values=[3, 2, 1], kimg=[1, 1.5]), [3, 2, 1, 1]),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_values_after_0_to_3_thousand_images(schedule: Schedule, expected: list[float]) -> None:
    assert [schedule.at(images) for images in (0, 1000, 2000, 3000)] == pytest.approx(expected)
    low, high = schedule.bounds()
    assert low <= min(expected)
    assert high >= max(expected)


def test_values_are_computed_in_float64() -> None:
    assert CosineSchedule(init=0.9, final=0.99, kimg=20_000).at(20_000_000) == 0.99
    assert value_at(CosineSchedule.Spec(init=0.9, final=0.99, kimg=20_000), 5e6) == pytest.approx(0.9131802, rel=1e-6)


def test_an_option_keeps_numbers_and_reads_schedules_back() -> None:
    assert R1.Spec(gamma=3).gamma == 3.0
    assert R1.Spec(gamma="1e-3").gamma == 1e-3  # YAML reads 1e-3 as a string
    adam = Adam(lr=2e-4, betas=(0, COSINE))
    assert Adam.model_validate(adam.model_dump(mode="json")) == adam
    assert EMA(half_life_kimg=COSINE).half_life_kimg == CosineSchedule.Spec(init=0.9, final=0.99, kimg=20_000)


@pytest.mark.parametrize(
    ("gamma", "message"),
    [
        (-1, "greater than or equal to 0, not -1"),
        ({"kind": "step", "values": [1, -1], "kimg": [1]}, "step reaches -1, and values should be greater"),
        ({"kind": "cosin"}, "did you mean 'cosine'"),
        ({"kind": "cosine", "init": 1, "final": 0, "kimg": 1, "hold_kimg": 2}, "kimg: 1 leaves no time"),
        ({"kind": "cosine", "init": 1, "final": 0, "kimg": 0}, "gamma.kimg +should be greater than 0"),
    ],
)
def test_values_outside_the_range_are_refused(gamma: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        R1.Spec(gamma=gamma)


def test_steps_have_one_value_more_than_changes() -> None:
    with pytest.raises(IncompatibleError, match="2 values for 2 changes; give 3"):
        StepSchedule(values=[1, 2], kimg=[1, 2])
    with pytest.raises(IncompatibleError, match="does not increase"):
        StepSchedule(values=[1, 2, 3], kimg=[2, 1])


def test_the_probability_of_ada_follows_its_schedule() -> None:
    augment = ADA(p={"kind": "linear", "init": 0, "final": 0.6, "kimg": 2}, target=None)
    strengths = []
    for images in (0, 1000, 2000):
        augment.at(images)
        augment.observe(torch.tensor(1.0), 64)
        strengths.append(augment.strength()["p"].item())
    assert strengths == pytest.approx([0, 0.3, 0.6])
    with pytest.raises(IncompatibleError, match="set target: null"):
        ADA(p={"kind": "linear", "init": 0, "final": 0.6, "kimg": 2})
    with pytest.raises(IncompatibleError, match="reaches 2, above its limit 1"):
        ADA(p={"kind": "linear", "init": 0, "final": 2, "kimg": 2}, target=None)

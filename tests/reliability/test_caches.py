"""Damaged caches are ignored with a reason: choices of kernels, and compiled kernels."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from blocks.ops import native
from registry import Kernel, Op, cache_folder, tuning
from tests.budget import SEED, number_of_cases
from tests.reliability.model_files import VALUES, _places, _with_value
from tests.reliability.mutations import mutated
from tests.reliability.sandbox import failures, run_sandboxed, summary


class Reference(Kernel):
    op, name, second_order = "double", "reference", True

    def run(self, x: Tensor) -> Tensor:
        return x * 2


class Sum(Kernel):
    op, name, second_order = "double", "sum", True

    def run(self, x: Tensor) -> Tensor:
        return x + x


double = Op("double", Reference(), Sum())


def damaged(content: bytes, draw: random.Random) -> bytes:
    """A file of choices with other bytes or another value."""
    if draw.random() < 0.5:
        return mutated(content, draw)
    data = json.loads(content)
    _with_value(data, draw.choice(list(_places(data))), draw.choice(VALUES))
    return json.dumps(data).encode()


@pytest.mark.slow
def test_damaged_choices_of_kernels_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache_folder.CACHE_ENV, str(tmp_path))
    double.bind("tune")(torch.ones(3))
    (path,) = tmp_path.iterdir()
    content, chance = path.read_bytes(), random.Random(SEED)

    def call(case: bytes) -> None:
        path.write_bytes(case)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert torch.equal(double.bind("tune")(torch.ones(3)), torch.full((3,), 2.0))
        assert tuning.Choices().kernels  # measured again and written

    cases = [(str(number), damaged(content, chance)) for number in range(number_of_cases(200, 1000))]
    outcomes = run_sandboxed(call, cases)
    print(summary(outcomes))
    assert failures(outcomes) == []


@pytest.mark.slow
@pytest.mark.skipif(native.compiler() is None, reason="there is no C++ compiler")
def test_damaged_compiled_kernels_are_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache_folder.CACHE_ENV, str(tmp_path / "cache"))
    source, chance = tmp_path / "twice.cpp", random.Random(SEED)
    source.write_text('extern "C" int twice(int x) { return 2 * x; }\n')

    def load() -> None:
        for function in (native.library, native.cache_problem):
            function.cache_clear()
        os._exit(native.library(source).twice(21))

    def exit_code() -> int | None:
        process = multiprocessing.get_context("fork").Process(target=load)
        process.start()
        process.join(60)
        return process.exitcode

    assert exit_code() == 42
    (path,) = (tmp_path / "cache" / "compiled").iterdir()
    whole = path.read_bytes()
    for _ in range(number_of_cases(3, 50)):
        path.unlink()
        path.write_bytes(mutated(whole, chance) if chance.random() < 0.5 else whole[: chance.randrange(len(whole))])
        assert exit_code() == 42
        assert path.read_bytes() == whole

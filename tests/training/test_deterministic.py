"""`--deterministic`: only deterministic algorithms run, and settings are restored."""

from __future__ import annotations

import json
import os

import pytest
import torch

from ganblocks.errors import RunError
from ganblocks.randomness import WORKSPACE, deterministic_algorithms
from ganblocks.training.trainer import Trainer
from tests.training.conftest import LAZY, different_tensors, run


@pytest.fixture(autouse=True)
def workspace(monkeypatch):
    monkeypatch.delenv(WORKSPACE, raising=False)


def test_algorithms_are_deterministic_inside_and_settings_are_restored():
    before = (torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory)
    with deterministic_algorithms():
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    with pytest.raises(ZeroDivisionError), deterministic_algorithms():
        _ = 1 / 0
    after = (torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory)
    assert after == before


def test_the_workspace_of_cublas_is_set_and_another_one_is_refused(monkeypatch):
    with deterministic_algorithms():
        pass
    assert os.environ[WORKSPACE] == ":4096:8"
    monkeypatch.setenv(WORKSPACE, ":0:0")
    with pytest.raises(RunError, match=r"--deterministic: CUBLAS_WORKSPACE_CONFIG is ':0:0'; unset it, or set :4096:8"):
        with deterministic_algorithms():
            pass


def test_an_operation_without_a_deterministic_algorithm_is_named():
    message = (
        "reflection_pad2d_backward_cuda does not have a deterministic implementation, but you set "
        "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this operation"
    )
    expected = (
        "--deterministic: reflection_pad2d_backward_cuda does not have a deterministic implementation; train without"
    )
    with pytest.raises(RunError, match=expected), deterministic_algorithms():
        raise RuntimeError(message)
    with pytest.raises(RunError, match="cuBLAS has started already; set CUBLAS_WORKSPACE_CONFIG=:4096:8 before CUDA"):
        with deterministic_algorithms():
            raise RuntimeError("Deterministic behavior was enabled, but ... set CUBLAS_WORKSPACE_CONFIG=:4096:8")
    with pytest.raises(RuntimeError, match="out of memory"), deterministic_algorithms():
        raise RuntimeError("out of memory")


def test_a_deterministic_run_is_recorded_and_resumes_bit_for_bit(tmp_path, monkeypatch):
    enabled, step = set(), Trainer.train_step
    monkeypatch.setattr(
        Trainer,
        "train_step",
        lambda *args: (enabled.add(torch.are_deterministic_algorithms_enabled()), step(*args)),
    )
    run(LAZY, tmp_path / "whole", steps=4, deterministic=True)
    run(LAZY, tmp_path / "parts", steps=2, deterministic=True)
    run(None, tmp_path / "parts", steps=4, resume=True)
    assert enabled == {True}
    assert json.loads((tmp_path / "parts" / "run.json").read_text())["deterministic"] is True
    assert different_tensors(tmp_path / "parts", tmp_path / "whole") == []
    run(LAZY, tmp_path / "free", steps=1)
    with pytest.raises(RunError, match="--deterministic: the run was started without it; omit --deterministic"):
        run(None, tmp_path / "free", steps=2, resume=True, deterministic=True)

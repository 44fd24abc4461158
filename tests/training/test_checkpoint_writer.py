"""Checkpoints written in the background: the state of their step, and no failure is lost."""

from __future__ import annotations

import errno
import os
import threading

import pytest
import torch

from assemblies.model_file import read_tensors
from ganblocks.errors import DataError, RunError
from ganblocks.training import loop
from ganblocks.training.run import checkpoint_writer
from ganblocks.training.trainer import Trainer
from tests.training.conftest import LAZY, checkpoint, checkpoint_metadata, different_tensors, log_records, run

BACKGROUND = {"async_save": True, "save_every_seconds": 0.0, "log_every_kimg": 0.008}


def test_a_background_write_has_the_state_of_its_step_while_the_training_goes_on(tmp_path, monkeypatch):
    written, at_step_3 = [], threading.Event()
    save, step = checkpoint_writer.save_checkpoint, Trainer.train_step

    def save_late(path, record, tensors):
        if not written:
            assert threading.current_thread() is not threading.main_thread()
            assert at_step_3.wait(60)
            save(tmp_path / "checkpoint.safetensors", record, tensors)
        written.append(record["step"])
        save(path, record, tensors)

    def train_step(self, *batch):
        step(self, *batch)
        if self.step == 2:
            at_step_3.set()

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", save_late)
    monkeypatch.setattr(Trainer, "train_step", train_step)
    run(LAZY, tmp_path / "run", steps=3, **BACKGROUND)
    assert written == [1, 2, 3]
    monkeypatch.undo()
    run(LAZY, tmp_path / "one", steps=1)
    assert different_tensors(tmp_path, tmp_path / "one") == []
    run(LAZY, tmp_path / "whole", steps=3)
    assert different_tensors(tmp_path / "run", tmp_path / "whole") == []
    model, expected = (read_tensors(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    assert model[1] == expected[1]
    assert all(torch.equal(model[0][name], value) for name, value in expected[0].items())


def failing_from(call, monkeypatch):
    """Let the disk be full from a write on."""
    save, calls = checkpoint_writer.save_checkpoint, []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) >= call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(*arguments)

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", full)


def test_a_failed_background_write_ends_the_run_with_its_message_and_keeps_the_last_one(tmp_path, monkeypatch):
    failing_from(2, monkeypatch)
    with pytest.raises(RunError, match=r"checkpoint.safetensors: No space left on device: .* needed, .* free"):
        run(LAZY, tmp_path / "run", steps=50, **BACKGROUND)
    assert checkpoint_metadata(tmp_path / "run")["step"] == 1
    assert checkpoint(tmp_path / "run")
    assert log_records(tmp_path / "run")[-1]["images"] < 50 * 8
    assert not list((tmp_path / "run").glob(".*.new"))


def test_an_error_of_the_training_is_raised_and_the_failed_write_is_a_warning(tmp_path, monkeypatch):
    failing_from(1, monkeypatch)

    def failing(self, *batch):
        if self.step == 1:
            raise DataError("the step failed")
        step(self, *batch)

    step = Trainer.train_step
    monkeypatch.setattr(loop.Trainer, "train_step", failing)
    with (
        pytest.warns(UserWarning, match="the last checkpoint could not be written: .* No space left"),
        pytest.raises(DataError, match="the step failed"),
    ):
        run(LAZY, tmp_path / "run", steps=4, **BACKGROUND)

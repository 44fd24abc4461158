"""Trackers get the numbers of the log and the samples; what fails outside the project does not stop a training."""

from __future__ import annotations

import json
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ganblocks.errors import UsageError
from ganblocks.training.logs import trackers as module
from ganblocks.training.logs.trackers import Trackers
from ganblocks.training.options import TrainOptions, resume_command
from ganblocks.training.train import train
from tests import tiny


def events(folder):
    """Scalars by tag as lists of (images, value), and the pictures, read from TensorBoard's files."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    accumulator = accumulators.EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    accumulator.Reload()
    scalars = {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}
    pictures = {tag: accumulator.Images(tag) for tag in accumulator.Tags()["images"]}
    return scalars, pictures


def test_tensorboard_gets_the_log_and_the_samples(tmp_path):
    folder = tmp_path / "run"
    train(tiny.gan(), "digits", folder, kimg=0.032, log_every_kimg=0.008, quiet=True, track=("tensorboard",))
    scalars, pictures = events(folder / "trackers" / "run")
    ticks = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    ticks = [tick for tick in ticks if tick["event"] == "tick"]
    assert len(ticks) == 4
    for name in ("discriminator", "logits/real"):
        expected = [(tick["images"], tick["losses"][name]) for tick in ticks]
        np.testing.assert_allclose(scalars[f"losses/{name}"], expected, rtol=1e-6)
    (tag,) = pictures
    assert [picture.step for picture in pictures[tag]] == [0, 8, 16, 24, 32]
    last = np.asarray(Image.open(BytesIO(pictures[tag][-1].encoded_image_string)))
    file = sorted((folder / "samples").glob("*.png"))[-1]
    np.testing.assert_array_equal(last, np.asarray(Image.open(file).convert("RGB")))


def test_a_tracker_that_is_not_installed_is_refused_before_the_run_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="the package wandb is not installed: pip install wandb"):
        train(tiny.gan(), "digits", tmp_path / "run", kimg=0.008, quiet=True, track=("wandb",))
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_tracker_that_fails_is_dropped_and_training_goes_on(tmp_path, monkeypatch):
    class Failing:
        def __init__(self, *_, **__): ...
        def start(self): ...
        def store_init_configuration(self, values): ...
        def log(self, values, step):
            raise ConnectionError("no network")

    monkeypatch.setitem(module.LOGGER_TYPE_TO_CLASS, "wandb", Failing)
    monkeypatch.setattr(module, "find_spec", lambda name: SimpleNamespace())
    trackers = Trackers(("wandb", "wandb"), tmp_path, {"seed": 1})
    assert list(trackers.trackers) == ["wandb"]
    trackers.record({"event": "started", "text": "no numbers"})
    with pytest.warns(UserWarning, match="--track wandb: ConnectionError: no network; training goes on without"):
        trackers.record({"event": "tick", "images": 8, "losses": {"generator": 1.0}})
    assert not trackers.trackers
    trackers.finish()


def test_what_is_sent_to_a_tracker(tmp_path, monkeypatch):
    calls = []

    class Recording:
        def __init__(self, project, **options):
            calls.append(("init", project, options))

        def start(self): ...

        def store_init_configuration(self, values):
            calls.append(("config", values))

        def log(self, values, step):
            calls.append(("log", values, step))

        def finish(self):
            calls.append(("finish",))

    monkeypatch.setitem(module.LOGGER_TYPE_TO_CLASS, "wandb", Recording)
    monkeypatch.setattr(module, "find_spec", lambda name: SimpleNamespace())
    trackers = Trackers(("wandb",), tmp_path / "faces", {"seed": 1, "flip": None, "a": {"b": [1]}})
    trackers.record(
        {"event": "metric", "metric": "fid", "value": 3.0, "values": {"fid": 3.0}, "best": True, "images": 9}
    )
    trackers.finish()
    assert calls == [
        ("init", "ganblocks", {"name": "faces", "id": "faces", "resume": "allow", "dir": str(tmp_path / "faces")}),
        ("config", {"seed": 1, "flip": "None", "a/b": "[1]"}),
        ("log", {"metric/fid": 3.0}, 9),
        ("finish",),
    ]


def test_the_resume_command_repeats_trackers(tmp_path):
    command = resume_command(TrainOptions(track=("tensorboard", "mlflow")), tmp_path, 1)
    assert command.endswith("--track tensorboard --track mlflow")

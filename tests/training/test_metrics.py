"""Metrics during a training are logged and recorded, and the best model is kept."""

from __future__ import annotations

import json

import pytest

from assemblies.model_file import read_metadata
from ganblocks import train
from ganblocks.errors import DataError
from ganblocks.metrics.compare import records_of
from ganblocks.metrics.evaluate import evaluate
from ganblocks.metrics.records import read_records
from registry import SpecError
from tests import tiny
from tests.extractors import save_extractor

OPTIONS = {"device": "cpu", "workers": 0, "quiet": True, "log_every_kimg": 0.016, "deterministic": True}


@pytest.fixture
def document(tmp_path, monkeypatch):
    """A GAN that is measured every 16 images."""
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path / "cache"))
    extractor = {"kind": "torchscript", "weights": str(save_extractor(tmp_path / "pooled.pt"))}
    metrics = [
        {"kind": "fid", "every_kimg": 0.016, "num": 30, "extractor": extractor},
        {"kind": "prdc", "every_kimg": 0.032, "num": 40, "extractor": extractor},
    ]
    return tiny.gan(metrics=metrics)


def metric_events(folder):
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [record for record in records if record["event"] == "metric"]


def test_a_training_measures_itself_and_keeps_the_best_model(document, tmp_path):
    run = train(document, "digits", tmp_path / "run", **OPTIONS)
    events = metric_events(run.folder)
    assert [(each["images"], each["metric"]) for each in events] == [
        (16, "fid"),
        (32, "fid"),
        (32, "prdc"),
        (48, "fid"),
    ]
    values = {each["images"]: each["value"] for each in events if each["metric"] == "fid"}
    best = min(values, key=values.get)
    assert read_metadata(run.folder / "best.safetensors")["extra"]["images"] == best
    assert [each["best"] for each in events if each["metric"] == "fid"] == [
        value == min(list(values.values())[: number + 1]) for number, value in enumerate(values.values())
    ]
    records = read_records(run.folder / "metrics.jsonl")
    assert [(each["metric"], each["model"]["images"]) for each in records] == [
        (each["metric"], each["images"]) for each in events
    ]
    assert all(each["ema"] for each in records)
    extractor = document["metrics"][0]["extractor"]["weights"]
    settings = ["fid.extractor=torchscript"]
    (again,) = evaluate(
        run.folder / "best.safetensors",
        ["fid"],
        "digits",
        num=30,
        device="cpu",
        settings=settings,
        extractor_weights=[f"torchscript={extractor}"],
    )
    assert again["value"] == pytest.approx(values[best], rel=1e-4)
    newest, measured = records_of(run.folder / "best.safetensors")[-1], again
    assert newest["value"] == measured["value"]


def test_a_resumed_training_measures_the_same(document, tmp_path):
    whole = train(document, "digits", tmp_path / "whole", **OPTIONS)
    train(document | {"kimg": 0.032}, "digits", tmp_path / "parts", **OPTIONS)
    resumed = train(out=tmp_path / "parts", resume=True, kimg=0.048, **OPTIONS)
    first, second = metric_events(whole.folder), metric_events(resumed.folder)
    assert [each["value"] for each in first] == [each["value"] for each in second]
    assert [each["best"] for each in first] == [each["best"] for each in second]
    files = [folder / "best.safetensors" for folder in (whole.folder, resumed.folder)]
    images = [read_metadata(file)["extra"]["images"] for file in files]
    assert images[0] == images[1]


def test_mistakes_are_found_before_the_training(document, tmp_path):
    missing = {"kind": "fid", "extractor": {"kind": "torchscript", "weights": "absent.pt"}}
    with pytest.raises(SpecError, match=r"absent\.pt"):
        train(document | {"metrics": [missing]}, "digits", tmp_path / "run", **OPTIONS)
    few = document["metrics"][1] | {"num": 3}
    with pytest.raises(DataError, match="prdc needs at least 6 images, not 3"):
        train(document | {"metrics": [few]}, "digits", tmp_path / "run", **OPTIONS)
    absent = document["metrics"][0] | {"reference": str(tmp_path / "absent.npz")}
    with pytest.raises(DataError, match=r"absent\.npz does not exist"):
        train(document | {"metrics": [absent]}, "digits", tmp_path / "run", **OPTIONS)
    assert not (tmp_path / "run" / "log.jsonl").exists()

"""A training from start to end: its run folder and log, its seeds, and wrong input."""

from __future__ import annotations

import json
import random
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from assemblies import load_model, parse, read
from ganblocks.data.digits import digits
from ganblocks.data.sources import open_data
from ganblocks.errors import DataError, RunError, UsageError
from ganblocks.sampling.pictures import save_figure
from ganblocks.training import loop
from ganblocks.training.logs import loss_curves
from ganblocks.training.run.folder import RunFolder
from ganblocks.training.run.identity import document_differences
from ganblocks.training.trainer import Trainer
from registry import IncompatibleError, SpecValidationError
from tests import tiny
from tests.training.conftest import LAZY, checkpoint_metadata, log_records, run, write_images


def test_a_run_folder_holds_all_files_of_a_run(finished):
    names = {path.name for path in finished.folder.iterdir()}
    state = {"run.json", "gan.yaml", "model.safetensors", "checkpoint.safetensors"}
    assert names == state | {"log.jsonl", "samples", "losses.png"}
    spec = read(finished.folder / "gan.yaml")
    assert spec.kimg == 0.048
    assert spec.plugins.keys() >= {"ganblocks"}
    assert document_differences(spec.to_dict(), parse(LAZY).to_dict()) == []
    assert sorted(path.name for path in (finished.folder / "samples").iterdir()) == [
        f"000000.{images:03d}kimg.png" for images in (0, 16, 32, 48)
    ]
    model = load_model(finished.folder / "model.safetensors")
    z = torch.randn(2, 8)
    with torch.no_grad():
        assert torch.equal(model(z), finished.generator(z))
    assert not finished.generator.training


def test_a_training_shorter_than_the_interval_of_log_lines_has_one_at_its_end(tmp_path):
    short = run(LAZY, tmp_path / "run", log_every_kimg=4.0)
    (tick,) = short.log
    assert tick["images"] == 48
    assert np.isfinite(list(tick["losses"].values())).all()
    assert {path.name for path in (short.folder / "samples").iterdir()} == {"000000.000kimg.png", "000000.048kimg.png"}


def test_loss_curves_are_drawn(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(loss_curves, "save_figure", save_figure)
    loss_curves.save_losses(RunFolder(finished.folder).ticks(), tmp_path / "losses.png")
    with Image.open(tmp_path / "losses.png") as picture:
        colours = [colour for _, colour in picture.convert("RGB").getcolors(2**24)]
    assert sum(max(colour) - min(colour) > 100 for colour in colours) >= 3  # one of each curve


def test_the_log_holds_options_kernels_losses_and_speed(finished):
    records = log_records(finished.folder)
    assert [record["event"] for record in records] == ["started", "kernels", "tick", "tick", "tick", "finished"]
    started, kernels, tick = records[:3]
    assert started["versions"].keys() >= {"python", "torch", "ganblocks"}
    assert started["num_images"] == 1437
    assert {"seed": 0, "precision": "fp32", "flip": False, "resize_filter": "lanczos", "batch_size": 8}.items() <= (
        started.items()
    )
    assert kernels["kernels"]["attention: reference"] == 1  # R1 needs a second derivative; the fused kernel has none
    assert kernels["kernels"]["attention: sdpa"] >= 4
    assert (tick["images"], tick["step"], tick["kimg"]) == (16, 2, 0.016)
    logits = {"logits/real", "logits/fake", "collapse/separated"}
    assert tick["losses"].keys() == {"discriminator", "generator", "r1"} | logits
    assert all(np.isfinite(value) for value in tick["losses"].values())
    networks = ("discriminator", "generator")
    others = {f"{name}/{network}" for name in ("gradient", "rate") for network in networks}
    assert tick["signals"].keys() == {"sign/real", "collapse/diversity"} | others
    assert -1 <= tick["signals"]["sign/real"] <= 1
    assert tick["images_per_second"] > 0
    assert finished.log == records[2:5]


def test_nothing_is_pickled(finished):
    with safe_open(finished.folder / "model.safetensors", framework="pt") as file:
        model = json.loads(file.metadata()["ganblocks"])
    checkpoint = checkpoint_metadata(finished.folder)
    assert (model["spec"]["kind"], checkpoint["spec"]["kind"]) == ("layered", "gan")
    assert all(metadata["plugins"].keys() >= {"ganblocks"} for metadata in (model, checkpoint))
    assert [checkpoint[name] for name in ("step", "images", "seed", "data")] == [6, 48, 0, "digits"]


def test_the_seed_fixes_all_weights(finished, tmp_path):
    same, other = run(LAZY, tmp_path / "same"), run(LAZY, tmp_path / "other", seed=2**64 - 1)
    expected = finished.generator.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in same.generator.state_dict().items())
    assert not all(torch.equal(value, expected[name]) for name, value in other.generator.state_dict().items())
    assert load_model(RunFolder(other.folder).model).state_dict().keys() == expected.keys()
    assert checkpoint_metadata(run(None, other.folder, data=None, resume=True).folder)["seed"] == 2**64 - 1


def test_the_random_state_of_the_caller_does_not_change(tmp_path):
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    expected = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    run(LAZY, tmp_path / "run", steps=1)
    assert (torch.rand(1), np.random.rand(), random.random()) == expected


def test_data_may_be_images_that_were_opened_before(tmp_path):
    images = digits("held-out", 16, 3)
    run(LAZY, tmp_path / "run", steps=1, data=images)
    resumed = run(None, tmp_path / "run", steps=2, data=images, resume=True)
    assert resumed.generator is not None
    images.name = "my images"
    run(LAZY, tmp_path / "named", steps=1, data=images)
    with pytest.raises(RunError, match="the run was started on 'my images', which is not here; give its --data"):
        run(None, tmp_path / "named", steps=2, data=None, resume=True)


def test_a_training_step_takes_one_batch_of_real_images(tmp_path, monkeypatch):
    loaded, trained = [], []
    batches, train_step = loop.batches, Trainer.train_step

    def recorded(*args, **options):
        for batch in batches(*args, **options):
            loaded.append(batch.images)
            yield batch

    def recorded_step(self, real, *conditions):
        trained.append(real)
        train_step(self, real, *conditions)

    monkeypatch.setattr(loop, "batches", recorded)
    monkeypatch.setattr(Trainer, "train_step", recorded_step)
    run(LAZY, tmp_path / "run", steps=3)
    assert len(loaded) == len(trained) == 3
    for images, real in zip(loaded, trained, strict=True):
        torch.testing.assert_close(real, images / 127.5 - 1)


@pytest.mark.parametrize("option", [None, True, False])
@pytest.mark.parametrize("document", [True, False])
def test_options_replace_values_of_the_document(tmp_path, monkeypatch, document, option):
    samplers = []
    original = loop.sampler_of
    monkeypatch.setattr(loop, "sampler_of", lambda *args, **kw: samplers.append(kw["flip"]) or original(*args, **kw))
    filters = {} if option is None else {"resize_filter": "box" if option else "bicubic"}
    folder = run(tiny.gan(flip=document), tmp_path / "run", steps=1, flip=option, **filters).folder
    flip = document if option is None else option
    spec = read(folder / "gan.yaml")
    assert (samplers, spec.flip) == ([flip], flip)
    assert spec.resize_filter == filters.get("resize_filter", "lanczos")


def test_a_new_run_does_not_overwrite_an_older_one(finished):
    before = (finished.folder / "model.safetensors").read_bytes()
    with pytest.raises(RunError, match="holds a run already; continue it with --resume"):
        run(LAZY, finished.folder)
    assert (finished.folder / "model.safetensors").read_bytes() == before


def test_an_unwritable_folder_is_refused_before_data_are_read(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot be written to \(Not a directory\)"):
        run(LAZY, tmp_path / "file" / "run", data=tmp_path / "no such data")


def test_wrong_input_leaves_no_run_behind(tmp_path):
    with pytest.raises(SpecValidationError, match="did you mean 'gamma'"):
        run(tiny.gan(regularizers=[{"kind": "r1", "gama": 1}]), tmp_path / "run")
    steps = [*tiny.GENERATOR["synthesis"]]
    steps[1] = steps[1] | {"attention": {"kind": "dense", "num_heads": 5}}
    with pytest.raises(IncompatibleError, match=r"generator\.synthesis\.1\.attention\.num_heads"):
        run(tiny.gan(generator=tiny.GENERATOR | {"synthesis": steps}), tmp_path / "run")
    with pytest.raises(UsageError, match="kimg: input should be greater than 0, but it is -1"):
        run(LAZY, tmp_path / "run", kimg=-1)
    with pytest.raises(UsageError, match="log_every_kimg: input should be a finite number"):
        run(LAZY, tmp_path / "run", log_every_kimg=float("nan"))
    with pytest.raises(UsageError, match=f"seed: input should be less than {2**64}"):
        run(LAZY, tmp_path / "run", seed=2**64)
    with pytest.raises(UsageError, match="tick: no such option; valid: flip, "):
        run(LAZY, tmp_path / "run", tick=1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "gan.yaml").touch()
    with pytest.raises(RunError, match=r"is a run folder, not a spec; continue its run with --resume --out .*other"):
        run(tmp_path / "other", tmp_path / "run")
    with pytest.raises(RunError, match="nothing to train"):
        run(None, tmp_path / "run")
    with pytest.raises(RunError, match="fp16 needs a GPU"):
        run(LAZY, tmp_path / "run", precision="fp16", device="cpu")
    with pytest.raises(RunError, match="device 'cuda:77' cannot be used"):
        run(LAZY, tmp_path / "run", device="cuda:77")
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match="no such data"):
        run(LAZY, tmp_path / "run", data=tmp_path / "no such data")
    run(LAZY, tmp_path / "run", steps=1)  # the folder holds no run yet


def test_the_log_names_unreadable_images(tmp_path):
    data = write_images(tmp_path / "images", 10)
    (data / "bad.png").write_text("bad")
    result = run(LAZY, tmp_path / "run", steps=2, data=data)
    (skipped,) = [record for record in log_records(result.folder) if record["event"] == "skipped-image"]
    assert skipped["path"].endswith("bad.png")
    assert skipped["reason"]
    assert result.log[-1]["skipped_images"] == 1
    texts = [record["text"] for record in log_records(result.folder) if record["event"] == "data"]
    assert texts == ["1 of 11 files skipped: 1 x is not an image"]


def test_files_that_are_read_during_training_are_counted_at_its_end(tmp_path, monkeypatch, capsys):
    data = write_images(tmp_path / "images", 3)
    for index in range(4):
        (data / f"bad{index}.png").write_text("bad")
    monkeypatch.setattr("ganblocks.training.single_stage.open_data", partial(open_data, in_memory=0))
    run(LAZY, tmp_path / "run", steps=5, data=data, workers=0, quiet=False)
    assert "4 of 7 files skipped: 4 x is not an image" in capsys.readouterr().err

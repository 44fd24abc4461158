"""Training goes on exactly where it stopped, and what goes wrong is said before any work is done."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from assemblies import EMA, Adam, CheckpointError, check, load_model, parse, read
from ganblocks import train
from ganblocks.data.digits import digits
from ganblocks.errors import DataError, Diverged, RunError
from ganblocks.randomness import seed_step
from ganblocks.training import ema
from ganblocks.training import loop as session
from ganblocks.training import trainer as steps
from ganblocks.training.checkpoint import load_checkpoint
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.generator import StyleMixing
from ganblocks.training.optimizer import NetworkOptimizer, corrected, named_regularizers
from ganblocks.training.run_folder import RunFolder
from ganblocks.training.signals import StopSignal
from ganblocks.training.train import _spec, differing
from ganblocks.training.trainer import Trainer
from registry import IncompatibleError, SpecValidationError
from tests import tiny

LAZY = tiny.gan()
EAGER = tiny.gan(
    loss="wasserstein",
    regularizers=[{"kind": "gradient-penalty"}, {"kind": "bcr", "every": 3}],
    discriminator=tiny.DISCRIMINATOR | {"weight_norm": "spectral-norm"},
    generator=tiny.GENERATOR | {"cond_dim": 10, "value_range": "imagenet"},
    ema={"half_life_kimg": 0.02, "ramp_up": None},
)
STYLEGAN2 = tiny.gan(
    generator=tiny.GENERATOR | {"cond_dim": 10},
    regularizers=[{"kind": "r1", "every": 3}, {"kind": "path-length", "every": 2}],
    augment={"kind": "ada", "kimg": 0.1, "interval": 4, "target": -0.9},
    style_mixing=0.9,
    discriminator_optimizer={"clip_norm": 0.5},
    freeze_d=1,
)


def run(document, out, steps=6, **options):
    """Train some steps of 8 images on digits, saving at the end only."""
    options = {
        "data": "digits",
        "kimg": steps * 0.008,
        "tick": 0.016,
        "snapshot": 1e9,
        "quiet": True,
        "workers": 0,
    } | options
    return train(document, options.pop("data"), out, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of six steps; tests only look at it."""
    return run(LAZY, tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def trainer():
    seed_step(0, -1)
    return Trainer(parse(LAZY), DistributedContext("cpu"))


def real_images(count=8):
    return torch.rand(count, 3, 16, 16) * 2 - 1


@pytest.mark.parametrize(
    ("document", "flip"), [(LAZY, True), (EAGER, False), (STYLEGAN2, False)], ids=["lazy", "eager", "stylegan2"]
)
def test_resuming_is_exact(tmp_path, document, flip):
    whole = run(document, tmp_path / "whole", steps=6, flip=flip)
    run(document, tmp_path / "parts", steps=3, flip=flip)
    torch.manual_seed(1234)  # whatever happens in between
    parts = run(None, tmp_path / "parts", steps=6, resume=True, data=None)
    expected, found = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "parts"))
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    for part in ("gan.generator", "gan.discriminator", "average", "optimizer.generator", "optimizer.discriminator"):
        assert any(name.startswith(part) for name in expected)
    for name, value in whole.generator.state_dict().items():
        assert torch.equal(value, parts.generator.state_dict()[name])
    told = ("images", "step", "losses", "signals")
    ticks = [{name: tick[name] for name in told} for tick in parts.log]
    assert ticks[-1] == [{name: tick[name] for name in told} for tick in whole.log][-1]
    if document is STYLEGAN2:
        assert expected["gan.augment.p"] == pytest.approx(0.32)  # moved once, after 4 steps of 8 images
        assert expected["gan.augment.shown"] == 16
        assert expected["gan.regularizers.1.mean"] > 0


def test_the_state_covers_the_mean_style_and_all_buffers(trainer):
    trainer.train_step(real_images(), None)
    from ganblocks.training.checkpoint import tensors_of

    saved = tensors_of(trainer)
    assert any(name.endswith("w_avg") for name in saved)
    for part, module in (("gan", trainer.gan), ("average", trainer.generator_ema)):
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            assert saved[f"{part}.{name}"] is value


def test_a_run_folder_holds_all_that_is_needed(finished):
    names = {path.name for path in finished.folder.iterdir()}
    assert names == {"gan.yaml", "log.jsonl", "samples", "losses.png", "model.safetensors", "checkpoint.safetensors"}
    spec = read(finished.folder / "gan.yaml")
    assert spec.kimg == 0.048
    assert spec.plugins.keys() >= {"ganblocks"}
    assert differing(spec.to_dict(), parse(LAZY).to_dict()) == []
    assert sorted(path.name for path in (finished.folder / "samples").iterdir()) == [
        f"000000.{images:03d}kimg.png" for images in (0, 16, 32, 48)
    ]
    model = load_model(finished.folder / "model.safetensors")
    z = torch.randn(2, 8)
    with torch.no_grad():
        assert torch.equal(model(z), finished.generator(z))
    assert not finished.generator.training


def test_the_log_tells_what_ran_and_how_fast(finished):
    records = [json.loads(line) for line in (finished.folder / "log.jsonl").read_text().splitlines()]
    assert [record["event"] for record in records] == ["started", "kernels", "tick", "tick", "tick", "finished"]
    started, kernels, tick = records[:3]
    assert started["versions"].keys() >= {"python", "torch", "ganblocks"}
    assert started["num_images"] == 1437
    assert kernels["kernels"]["attention: reference"] == 1  # R1 needs a second derivative; the fused kernel has none
    assert kernels["kernels"]["attention: sdpa"] >= 4
    assert (tick["images"], tick["step"], tick["kimg"]) == (16, 2, 0.016)
    assert tick["losses"].keys() == {"discriminator", "generator", "r1", "logits/real", "logits/fake"}
    assert all(np.isfinite(value) for value in tick["losses"].values())
    assert tick["signals"].keys() == {"sign/real", "gradient/discriminator", "gradient/generator"}
    assert -1 <= tick["signals"]["sign/real"] <= 1
    assert tick["images_per_second"] > 0
    assert finished.log == records[2:5]


def test_nothing_is_pickled(finished):
    for name in ("checkpoint.safetensors", "model.safetensors"):
        with safe_open(finished.folder / name, framework="pt") as file:
            told = json.loads(file.metadata()["ganblocks"])
        assert told["spec"]["kind"] in ("gan", "layered")
        assert told["plugins"].keys() >= {"ganblocks"}
    with safe_open(finished.folder / "checkpoint.safetensors", framework="pt") as file:
        told = json.loads(file.metadata()["ganblocks"])
    assert (told["step"], told["images"], told["seed"], told["data"]) == (6, 48, 0, "digits")


def test_seeds_decide_everything(finished, tmp_path):
    same, other = run(LAZY, tmp_path / "same"), run(LAZY, tmp_path / "other", seed=1)
    expected = finished.generator.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in same.generator.state_dict().items())
    assert not all(torch.equal(value, expected[name]) for name, value in other.generator.state_dict().items())


def test_the_callers_randomness_is_left_alone(tmp_path):
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    expected = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    run(LAZY, tmp_path / "run", steps=1)
    assert (torch.rand(1), np.random.rand(), random.random()) == expected


def test_an_interrupted_training_saves_its_state_and_says_how_to_go_on(tmp_path):
    (tmp_path / "gan.json").write_text(json.dumps(tiny.gan(kimg=1000)))
    command = [
        sys.executable,
        "-c",
        "from ganblocks.cli.app import main; main()",
        "train",
        "gan.json",
        "--data",
        "digits",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    dist = subprocess.Popen(
        [*command, "--out", "my run", "--tick", "0.016", "--snapshot", "1e9"],
        **dict(cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True),
    )
    log = tmp_path / "my run" / "log.jsonl"
    deadline = time.monotonic() + 600
    while not (log.exists() and '"tick"' in log.read_text()) and dist.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    dist.send_signal(signal.SIGINT)
    _, said = dist.communicate(timeout=600)
    assert dist.returncode == 130, said
    assert "Traceback" not in said
    assert re.search(r"stopped at \S+ of 1000 kimg; the state is saved", said)
    assert "ganblocks train --resume --out 'my run'" in said
    with safe_open(tmp_path / "my run" / "checkpoint.safetensors", framework="pt") as file:
        step = json.loads(file.metadata()["ganblocks"])["step"]
    resumed = run(None, tmp_path / "my run", steps=step + 2, resume=True, data=None)
    whole = run(tiny.gan(), tmp_path / "whole", steps=step + 2)
    expected = whole.generator.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.generator.state_dict().items())
    ticks = [json.loads(line)["images"] for line in log.read_text().splitlines() if '"tick"' in line]
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request_and_the_second_is_not(signum):
    seen = []
    before = signal.signal(signum, lambda number, _: seen.append(number))
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), signum)
            assert (stop.signum, seen) == (signum, [])
            os.kill(os.getpid(), signum)
            assert seen == [signum]
    finally:
        signal.signal(signum, before)


def test_what_came_after_the_last_checkpoint_is_forgotten(tmp_path):
    run(LAZY, tmp_path / "run", steps=2)
    with (tmp_path / "run" / "log.jsonl").open("a") as file:
        file.write('{"event": "tick", "images": 4000, "kimg": 4.0, "losses": {}}\n{"event": "ti')
    resumed = run(None, tmp_path / "run", steps=4, resume=True, data=None)
    assert [tick["images"] for tick in resumed.log] == [16, 32]


def test_resuming_a_run_that_saved_nothing_begins_anew(tmp_path, finished):
    run(LAZY, tmp_path / "run", steps=2)
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    resumed = run(None, tmp_path / "run", resume=True)
    expected = finished.generator.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.generator.state_dict().items())


def test_an_ended_run_resumes_to_a_longer_one_only(finished):
    again = train(None, out=finished.folder, resume=True, quiet=True)
    assert [tick["images"] for tick in again.log] == [16, 32, 48]


def test_images_may_be_handed_over(tmp_path):
    images = digits("held-out", 16, 3)
    run(LAZY, tmp_path / "run", steps=1, data=images)
    resumed = run(None, tmp_path / "run", steps=2, data=images, resume=True)
    assert resumed.generator is not None


def test_another_spec_cannot_be_resumed(finished):
    other = tiny.gan(regularizers=[{"kind": "r1", "gamma": 2.0, "every": 2}], batch_size=4, augment=None, loss="hinge")
    with pytest.raises(RunError) as error:
        run(other, finished.folder, resume=True)
    lines = str(error.value).splitlines()[1:]
    assert [line.strip() for line in lines] == [
        "loss: non-saturating -> hinge",
        "regularizers.0.gamma: 1.0 -> 2.0",
        "augment: diffaugment -> None",
        "batch_size: 8 -> 4",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, "begun with seed 0, not 1"),
        ({"flip": True}, "begun with flip False, not True"),
        ({"resize_filter": "box"}, "begun with resize_filter lanczos, not box"),
        ({"data": digits("held-out", 16, 3)}, "begun on 1437 images, digits has 360"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_other_options_cannot_be_resumed(finished, options, message):
    with pytest.raises(RunError, match=message):
        run(LAZY, finished.folder, resume=True, **options)


def test_an_older_run_is_not_overwritten(finished):
    before = (finished.folder / "model.safetensors").read_bytes()
    with pytest.raises(RunError, match="holds a run already; go on with it by --resume"):
        run(LAZY, finished.folder)
    assert (finished.folder / "model.safetensors").read_bytes() == before


def test_there_has_to_be_a_run_to_resume(tmp_path):
    with pytest.raises(RunError, match="is no folder, so there is nothing to resume"):
        run(None, tmp_path / "nowhere", resume=True)
    with pytest.raises(RunError, match="has no run in it"):
        run(None, tmp_path, resume=True)


def test_an_unwritable_folder_is_found_out_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot be written to \(Not a directory\)"):
        run(LAZY, tmp_path / "file" / "run", data=tmp_path / "no such data")


def test_wrong_input_leaves_no_run_behind(tmp_path):
    with pytest.raises(SpecValidationError, match="did you mean gamma"):
        run(tiny.gan(regularizers=[{"kind": "r1", "gama": 1}]), tmp_path / "run")
    steps_ = [*tiny.GENERATOR["synthesis"]]
    steps_[1] = steps_[1] | {"attention": {"kind": "dense", "num_heads": 5}}
    with pytest.raises(IncompatibleError, match=r"generator\.synthesis\.1\.attention\.num_heads"):
        run(tiny.gan(generator=tiny.GENERATOR | {"synthesis": steps_}), tmp_path / "run")
    with pytest.raises(SpecValidationError, match="kimg"):
        run(LAZY, tmp_path / "run", kimg=-1)
    with pytest.raises(RunError, match="nothing to train"):
        run(None, tmp_path / "run")
    with pytest.raises(RunError, match="fp16 needs a GPU"):
        run(LAZY, tmp_path / "run", precision="fp16", device="cpu")
    with pytest.raises(RunError, match="device 'cuda:77' cannot be used"):
        run(LAZY, tmp_path / "run", device="cuda:77")
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match="there is no folder"):
        run(LAZY, tmp_path / "run", data=tmp_path / "no such data")
    run(LAZY, tmp_path / "run", steps=1)  # a run that never began is no obstacle


@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty", "model"])
def test_a_damaged_checkpoint_is_told_plainly(tmp_path, finished, damage):
    run(LAZY, tmp_path / "run", steps=1)
    path = tmp_path / "run" / "checkpoint.safetensors"
    whole = path.read_bytes()
    model = (finished.folder / "model.safetensors").read_bytes()
    path.write_bytes(
        {"truncated": whole[: len(whole) // 2], "foreign": b"PK" * 99, "empty": b"", "model": model}[damage]
    )
    with pytest.raises(CheckpointError, match="not the state of a training" if damage == "model" else "cannot be read"):
        run(None, tmp_path / "run", resume=True)


def test_corrupt_images_are_named_in_the_log(tmp_path):
    from ganblocks.sampling.grids import to_picture

    (tmp_path / "images").mkdir()
    for index, pixels in enumerate(digits("train", 16, 3).pixels[:10]):
        to_picture(pixels).save(tmp_path / "images" / f"{index}.png")
    (tmp_path / "images" / "bad.png").write_text("bad")
    found = run(LAZY, tmp_path / "run", steps=2, data=tmp_path / "images")
    records = [json.loads(line) for line in (found.folder / "log.jsonl").read_text().splitlines()]
    (skipped,) = [record for record in records if record["event"] == "skipped-image"]
    assert (Path(skipped["path"]).name, skipped["reason"]) == ("bad.png", "is not an image")
    assert found.log[-1]["skipped_images"] == 1


def poison(loss, phase):
    """Make a loss not a number."""
    original = getattr(loss, phase)
    setattr(loss, phase, lambda *logits: original(*logits) * float("nan"))


def test_a_step_with_non_finite_gradients_is_skipped_and_named(trainer):
    poison(trainer.gan.loss, "generator")
    before = {name: value.clone() for name, value in trainer.generator.named_parameters()}
    trainer.train_step(real_images(), None)
    assert all(torch.equal(value, before[name]) for name, value in trainer.generator.named_parameters())
    ((where, times),) = trainer.meter.read_non_finite().items()
    assert times == 1
    assert re.match(r"generator \(generator\): \S+, \S+, \S+ and \d+ more", where)
    assert trainer.meter.read_non_finite() == {}
    assert all(value.isfinite().all() for value in trainer.discriminator.parameters())
    assert trainer.optimizers["discriminator"].optimizer.state


def test_training_stops_when_gradients_stay_non_finite(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "PATIENCE", 5)
    broken = tiny.gan(discriminator_optimizer={"lr": 1e30})
    with pytest.raises(Diverged, match="5 times in a row, at step"):
        run(broken, tmp_path / "run", steps=60, tick=1000)
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert records[-1]["event"] == "diverged"
    assert sum(record["times"] for record in records if record["event"] == "non-finite") >= 5


def test_each_side_learns_alone(trainer):
    discriminator, generator = trainer.optimizers["discriminator"], trainer.optimizers["generator"]
    seen = []
    for side in (discriminator, generator):
        side.optimizer.register_step_pre_hook(
            lambda *_: seen.append(
                {
                    name: any(p.grad is not None for p in getattr(trainer.gan, name).parameters())
                    for name in trainer.optimizers
                }
            )
        )
    trainer.train_step(real_images(), None)
    alone = [{"discriminator": True, "generator": False}] * 2 + [{"discriminator": False, "generator": True}]
    assert seen == alone
    assert not any(parameter.requires_grad for parameter in trainer.gan.parameters())


def test_the_discriminators_turn_computes_no_gradient_of_the_generator(trainer):
    seen = {"discriminator": [], "generator": []}
    original = trainer.optimizer_step

    def optimizer_step(side, losses, *args, **options):
        trainable = {name: any(p.requires_grad for p in getattr(trainer.gan, name).parameters()) for name in seen}
        seen[side.name].append((trainable["generator"], trainable["discriminator"]))
        return original(side, losses, *args, **options)

    trainer.optimizer_step = optimizer_step
    made = []
    trainer.generator.register_forward_hook(lambda _module, _args, image: made.append(image.requires_grad))
    trainer.train_step(real_images(), None)
    assert seen == {"discriminator": [(False, True)] * 2, "generator": [(True, False)]}
    assert made == [False, True]  # the images of D's turn have no history, those of G's do


def test_an_iteration_takes_one_real_batch(tmp_path, monkeypatch):
    taken, shown = [], []
    batches, train_step = session.batches, Trainer.train_step

    def counted(*args, **options):
        for batch in batches(*args, **options):
            taken.append(batch.images)
            yield batch

    def watched(self, real, *told):
        shown.append(real)
        train_step(self, real, *told)

    monkeypatch.setattr(session, "batches", counted)
    monkeypatch.setattr(Trainer, "train_step", watched)
    run(LAZY, tmp_path / "run", steps=3)
    assert len(taken) == len(shown) == 3
    for images, real in zip(taken, shown, strict=True):
        torch.testing.assert_close(real, images / 127.5 - 1)


def test_both_optimisers_go_on_where_they_were(tmp_path):
    run(LAZY, tmp_path / "run", steps=3)
    fresh = Trainer(parse(LAZY), DistributedContext("cpu"))
    load_checkpoint(tmp_path / "run" / "checkpoint.safetensors", fresh)
    saved = load_file(tmp_path / "run" / "checkpoint.safetensors")
    for name, times in (("discriminator", 5), ("generator", 3)):  # with R1 in steps 0 and 2
        moments = fresh.optimizers[name].moments()
        assert len(moments) == 3 * len(fresh.optimizers[name].parameters)
        for key, value in moments.items():
            assert torch.equal(value, saved[f"optimizer.{name}.{key}"])
        assert max(value for key, value in moments.items() if key.endswith(".step")) == times
        assert sum(value.abs().max() > 0 for value in moments.values()) > 0.9 * len(moments)


def test_the_condition_reaches_the_discriminator_in_every_phase():
    document = tiny.gan(
        generator=tiny.GENERATOR | {"cond_dim": 10},
        regularizers=[{"kind": "r1", "every": 2}, "bcr", {"kind": "path-length", "every": 2}],
    )
    seed_step(0, -1)
    trainer = Trainer(parse(document), DistributedContext("cpu"))
    c, seen, mapped = torch.eye(10)[:8], [], []
    trainer.discriminator.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    trainer.generator.mapping.register_forward_pre_hook(lambda _, args: mapped.append(args[1]))
    trainer.train_step(real_images(), c)
    assert len(seen) >= 6  # real, fake, their copies, R1, G's turn
    assert all(torch.equal(each, c) for each in seen)
    assert [len(each) for each in mapped] == [8, 8, 4]
    assert all(torch.equal(each, c[: len(each)]) for each in mapped)
    logits = trainer.discriminator(real_images(), c), trainer.discriminator(real_images(), c.roll(1, 0))
    assert not torch.equal(*logits)


def test_long_gradients_are_clipped_in_the_main_phase_alone(trainer):
    side = trainer.optimizers["discriminator"]
    side.clip_norm = 1e-3
    norms = []
    side.optimizer.register_step_pre_hook(
        lambda *_: norms.append(nn.utils.get_total_norm(side.gradients().values()).item())
    )
    trainer.train_step(real_images(), None)
    assert norms[0] == pytest.approx(1e-3, rel=1e-3)
    assert norms[1] > 2e-3  # R1
    signals = trainer.read_signals()
    assert signals["gradient/discriminator"] > 1e-2  # told as it was before
    assert signals["gradient/generator"] > 0


def test_frozen_steps_of_the_discriminator_keep_their_weights():
    seed_step(0, -1)
    trainer = Trainer(parse(tiny.gan(freeze_d=2)), DistributedContext("cpu"))
    before = {name: value.clone() for name, value in trainer.discriminator.named_parameters()}
    trainer.train_step(real_images(), None)
    same = {name for name, value in trainer.discriminator.named_parameters() if torch.equal(value, before[name])}
    assert same == {name for name in before if name.startswith(("steps.0.", "steps.1."))}
    with pytest.raises(IncompatibleError, match=r"freeze_d +the discriminator has 6 steps .*; at most 5 can be frozen"):
        check(parse(tiny.gan(freeze_d=6)))


def test_style_mixing_takes_later_styles_from_a_second_latent():
    generator = parse(tiny.gan()).build().generator
    z = torch.randn(4, 8)
    plain = generator.mapping(z, update_w_avg=False)
    before = generator.mapping.w_avg.clone()
    generator.mapping(z)
    moved, generator.mapping.w_avg = generator.mapping.w_avg, before
    seen = set()
    for seed in range(30):
        torch.manual_seed(seed)
        generator.mapping.w_avg = before.clone()
        ws = StyleMixing(generator, 1.0).mapping(z)
        kept = (ws == plain).all(dim=2)
        assert (kept == kept[0]).all()  # the same place for the whole batch
        first = int(kept[0].sum())
        assert kept[0, :first].all()
        seen.add(first)
        assert torch.equal(generator.mapping.w_avg, moved)  # the second latent leaves it alone
    assert seen == set(range(1, generator.num_ws))


def test_styles_are_mixed_as_often_as_said_and_only_in_training(tmp_path):
    generator = parse(tiny.gan()).build().generator
    mixing, z = StyleMixing(generator, 0.25), torch.randn(2, 8)
    torch.manual_seed(0)
    mixed = [not torch.equal(*ws[0, [0, -1]]) for ws in (mixing.mapping(z) for _ in range(400))]
    assert np.mean(mixed) == pytest.approx(0.25, abs=0.05)
    assert (mixing.z_dim, mixing.resolution) == (8, (16, 16))
    trainer = Trainer(parse(tiny.gan(style_mixing=0.9)), DistributedContext("cpu"))
    assert isinstance(trainer.networks.generator, StyleMixing)
    assert not isinstance(trainer.generator_ema, StyleMixing)
    single = tiny.GENERATOR | {
        "synthesis": [{"kind": "constant", "resolution": 4, "dim": 8}, {"kind": "to-rgb", "modulation": "modulate"}]
    }
    with pytest.raises(IncompatibleError, match=r"style_mixing +the generator has 1 style vector"):
        check(parse(tiny.gan(generator=single, discriminator=tiny.DISCRIMINATOR, style_mixing=0.5)))


def test_the_augmentation_is_told_how_far_training_is_and_how_real_images_are_judged():
    trainer = Trainer(parse(tiny.gan(augment="ada", regularizers=[])), DistributedContext("cpu"))
    told = []
    trainer.gan.augment.at = lambda images: told.append(images)
    trainer.gan.augment.observe = lambda sign, images: told.append((sign.item(), images))
    for _ in range(2):
        trainer.train_step(real_images(), None)
    assert told[::2] == [0, 8]
    assert [images for _, images in told[1::2]] == [8, 8]
    signs = [sign for sign, _ in told[1::2]]
    assert trainer.read_signals()["sign/real"] == pytest.approx(sum(signs) / 2)
    assert trainer.read_signals() == {"augment/p": 0.0}


def test_what_arrives_frozen_stays_frozen():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    network[0].requires_grad_(False)
    side = NetworkOptimizer("discriminator", network, Adam(), [], torch.device("cpu"))
    with side.trainable():
        assert [parameter.requires_grad for parameter in network.parameters()] == [False, False, True, True]
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_lazy_term_counts_as_often_as_it_is_skipped(trainer):
    discriminator = trainer.optimizers["discriminator"]
    (term,) = discriminator.lazy
    parameter = next(iter(discriminator.parameters.values()))
    gradients = []
    discriminator.optimizer.register_step_pre_hook(lambda *_: gradients.append(parameter.grad.clone()))
    assert [len(discriminator.due_at(step)) for step in range(5)] == [1, 0, 1, 0, 1]
    with discriminator.trainable():
        trainer.optimizer_step(discriminator, {"some": parameter.sum()}, weight=term.every)
    assert torch.equal(gradients[0], torch.full_like(parameter, 2.0))
    weights = []
    trainer.optimizer_step = lambda _side, _losses, weight=1.0, clip_norm=None: weights.append(weight)
    trainer.train_step(real_images(), None)
    assert weights == [1.0, 2, 1.0]


def test_a_run_from_before_an_option_was_there_can_be_resumed(tmp_path):
    old = parse(tiny.gan()).to_dict()
    del old["ema"]["start_kimg"], old["generator_optimizer"]["warmup_kimg"]
    found = _spec(None, RunFolder(tmp_path), {"spec": old}, resume=True, changes={})
    assert found.ema.start_kimg == 0
    with pytest.raises(RunError, match=r"ema.start_kimg: 0.0 -> 1.0"):
        _spec(tiny.gan(ema={"start_kimg": 1}), RunFolder(tmp_path), {"spec": old}, resume=True, changes={})


def test_adam_is_corrected_for_lazy_terms():
    adam = Adam(lr=0.002, betas=(0.5, 0.99))
    assert corrected(adam, []) == (0.002, (0.5, 0.99))
    lr, betas = corrected(adam, [16])
    assert lr == pytest.approx(0.002 * 16 / 17)
    assert betas == (pytest.approx(0.5 ** (16 / 17)), pytest.approx(0.99 ** (16 / 17)))


def test_the_learning_rate_falls_to_zero_over_the_last_images():
    side = NetworkOptimizer("generator", nn.Linear(1, 1), Adam(lr=0.1, decay_kimg=10), [], torch.device("cpu"))
    rates = []
    for left in (100, 10, 5, 0, -1):
        side.set_rate(1, left)
        rates.append(side.optimizer.param_groups[0]["lr"])
    assert rates == [0.1, 0.1, 0.05, 0, 0]


def test_the_learning_rate_rises_over_the_first_images():
    side = NetworkOptimizer("generator", nn.Linear(1, 1), Adam(lr=0.1, warmup_kimg=4), [], torch.device("cpu"))
    rates = []
    for shown in (1, 2, 4, 8):
        side.set_rate(shown, 100)
        rates.append(side.optimizer.param_groups[0]["lr"])
    assert rates == [0.025, 0.05, 0.1, 0.1]


def test_weights_are_copied_up_to_the_image_where_the_average_begins():
    average = EMA(half_life_kimg=1, ramp_up=None, start_kimg=2)
    assert [ema.decay(average, 100, images) for images in (0, 1900)] == [0, 0]
    assert ema.decay(average, 100, 2000) == pytest.approx(0.5**0.1)


def test_adam_sees_gradients_laid_out_as_their_parameters():
    weight = torch.randn(8, 4, 3, 3)
    gradient = torch.randn(8, 4, 3, 3)
    layouts = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}
    found = {}
    for name, layout in layouts.items():
        network = nn.Conv2d(4, 8, 3, bias=False)
        network.weight.data = weight.clone().to(memory_format=layout)
        side = NetworkOptimizer("discriminator", network, Adam(), [], torch.device("cpu"))
        for scale in (1, 2, 3):
            network.weight.grad = scale * gradient
            side.gradients()
            side.optimizer.step()
        found[name] = network.weight.detach().clone()
    torch.testing.assert_close(found["channels-last"], found["contiguous"])


def test_terms_of_one_kind_are_numbered():
    spec = parse(tiny.gan(regularizers=["r1", {"kind": "r1", "every": 4}, "bcr"]))
    assert [term.name for term in named_regularizers(spec.build().regularizers)] == ["r1-1", "r1-2", "bcr"]


def test_the_average_has_its_half_life_in_images():
    assert ema.decay(EMA(half_life_kimg=1, ramp_up=None), 1000, 0) == 0.5
    assert ema.decay(EMA(half_life_kimg=1, ramp_up=None), 500, 0) == pytest.approx(0.5**0.5)
    assert ema.decay(EMA(half_life_kimg=1, ramp_up=0.1), 100, 1000) == 0.5  # half-life 100 images so far
    assert ema.decay(EMA(half_life_kimg=1, ramp_up=0.1), 100, 0) == 0.0
    assert ema.decay(EMA(half_life_kimg=0), 100, 1000) == 0.0


def test_the_average_mixes_parameters_and_copies_buffers():
    source, target = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(source.weight, 3.0)
    source.running_mean.fill_(5.0)
    ema.average(target, source, 0.75)
    assert target.weight.tolist() == [1.5, 1.5]
    assert target.running_mean.tolist() == [5.0, 5.0]


def test_an_augmentation_sees_images_from_minus_one_to_one():
    spec = parse(tiny.gan(generator=tiny.GENERATOR | {"value_range": "unit"}))
    augment = steps.augmentation(spec.build())
    seen = []
    augment.augment.forward = lambda images: seen.append(images) or images
    images = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(augment(images), images)
    torch.testing.assert_close(seen[0], images * 2 - 1)
    assert isinstance(steps.augmentation(parse(tiny.gan(augment=None)).build()), nn.Identity)


def test_bfloat16_trains(tmp_path):
    found = run(LAZY, tmp_path / "run", steps=2, precision="bf16")
    assert all(np.isfinite(value) for value in found.log[-1]["losses"].values())
    assert all(value.dtype == torch.float32 for value in found.generator.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="fp16 needs a GPU, and there is none")
def test_float16_trains_and_resumes(tmp_path):
    run(LAZY, tmp_path / "run", steps=4, precision="fp16", device="cuda")
    found = run(None, tmp_path / "run", steps=8, precision="fp16", device="cuda", resume=True)
    assert all(np.isfinite(value) for value in found.log[-1]["losses"].values())


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path):
    script = tmp_path / "both.py"
    script.write_text(
        "import torch\n"
        "from tests import tiny\n"
        "from ganblocks import train\n"
        "from ganblocks.training.distributed import destroy_process_group\n"
        "from ganblocks.training.trainer import Training\n"
        "gan = tiny.gan(regularizers=[{'kind': 'path-length', 'every': 2}], style_mixing=0.5, "
        "augment={'kind': 'ada', 'kimg': 0.1, 'target': -0.9})\n"
        "trained = []\n"
        "init = Training.__init__\n"
        "Training.__init__ = lambda self, *args: (init(self, *args), trained.append(self.gan))[0]\n"
        "found = train(gan, 'digits', 'run', device='cpu', tick=0.016, workers=0, quiet=True)\n"
        "(gan,) = trained\n"
        "assert gan.augment.p > 0 and gan.regularizers[0].mean > 0\n"
        "agreed = {'p': gan.augment.p[None], 'mean': gan.regularizers[0].mean[None]}\n"
        "for name, value in [*found.generator.named_parameters(), *agreed.items()]:\n"
        "    both = [torch.empty_like(value) for _ in range(2)]\n"
        "    torch.distributed.all_gather(both, value.contiguous())\n"
        "    assert torch.equal(*both), name\n"
        "destroy_process_group()\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root, "ACCELERATE_USE_CPU": "true"}
    ended = subprocess.run(launch, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr[-3000:]
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert records[0]["processes"] == 2
    assert [record["images"] for record in records if record["event"] == "tick"] == [16, 32, 48]

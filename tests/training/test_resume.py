"""A resumed training gives the same numbers as one that was never stopped, or is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from assemblies import CheckpointError, parse
from assemblies.model_file import read_metadata
from ganblocks import load, train
from ganblocks.data.digits import digits
from ganblocks.errors import RunError
from ganblocks.training import loop
from ganblocks.training.checkpoint import checkpoint_tensors, load_checkpoint
from ganblocks.training.options import TrainOptions, resume_command
from ganblocks.training.run.folder import RunFolder
from ganblocks.training.run.identity import RunRecord
from ganblocks.training.single_stage import _resolved, read_record
from tests import tiny
from tests.training.conftest import (
    EAGER,
    LAZY,
    STYLEGAN2,
    checkpoint,
    checkpoint_metadata,
    clip_condition,
    different_tensors,
    log_records,
    new_trainer,
    real_images,
    run,
    write_images,
)


@pytest.mark.parametrize(
    ("document", "flip"), [(LAZY, True), (EAGER, False), (STYLEGAN2, False)], ids=["lazy", "eager", "stylegan2"]
)
def test_a_resumed_run_is_equal_bit_for_bit(tmp_path, document, flip):
    whole = run(document, tmp_path / "whole", steps=6, flip=flip)
    run(document, tmp_path / "parts", steps=3, flip=flip)
    torch.manual_seed(1234)  # the random state of the process does not matter
    parts = run(None, tmp_path / "parts", steps=6, resume=True, data=None)
    assert different_tensors(tmp_path / "parts", tmp_path / "whole") == []
    tensors = checkpoint(tmp_path / "whole")
    for part in ("gan.generator", "gan.discriminator", "average", "optimizer.generator", "optimizer.discriminator"):
        assert any(name.startswith(part) for name in tensors)
    for name, value in whole.generator.state_dict().items():
        assert torch.equal(value, parts.generator.state_dict()[name])
    names = ("images", "step", "losses", "signals")
    assert [parts.log[-1][name] for name in names] == [whole.log[-1][name] for name in names]
    classes = () if document is LAZY else tuple("0123456789")
    assert load(tmp_path / "parts").class_names == parts.generator.class_names == classes
    if document is STYLEGAN2:
        assert tensors["gan.augment.p"] == pytest.approx(0.32)  # adapted once, after 4 steps of 8 images
        assert tensors["gan.augment.shown"] == 16
        assert tensors["gan.regularizers.1.mean"] > 0


def test_the_checkpoint_covers_the_mean_style_and_all_buffers(trainer):
    trainer.train_step(real_images(), None)
    tensors = checkpoint_tensors(trainer)
    assert any(name.endswith("w_avg") for name in tensors)
    for part, module in (("gan", trainer.gan), ("average", trainer.generator_ema)):
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            assert tensors[f"{part}.{name}"] is value


def test_both_optimizers_continue_with_their_moments(tmp_path):
    run(LAZY, tmp_path / "run", steps=3)
    trainer = new_trainer(seed=5)
    load_checkpoint(tmp_path / "run" / "checkpoint.safetensors", trainer)
    tensors = checkpoint(tmp_path / "run")
    for name, times in (("discriminator", 5), ("generator", 3)):  # with R1 in steps 0 and 2
        moments = trainer.optimizers[name].moments()
        assert len(moments) == 3 * len(trainer.optimizers[name].parameters)
        for key, value in moments.items():
            assert torch.equal(value, tensors[f"optimizer.{name}.{key}"])
        assert max(value for key, value in moments.items() if key.endswith(".step")) == times
        assert sum(value.abs().max() > 0 for value in moments.values()) > 0.9 * len(moments)


def test_log_records_after_the_last_checkpoint_are_dropped(tmp_path):
    run(LAZY, tmp_path / "run", steps=2)
    with (tmp_path / "run" / "log.jsonl").open("a") as file:
        file.write('{"event": "tick", "images": 4000, "kimg": 4.0, "losses": {}}\n{"event": "ti')
    resumed = run(None, tmp_path / "run", steps=4, resume=True, data=None)
    assert [tick["images"] for tick in resumed.log] == [16, 32]


@pytest.mark.parametrize(
    "damage",
    [
        b"\xff\xfe\x00\n",
        b'7\n[1]\n"text"\nnull\n',
        b'{"event": "tick"}\n',
        b'{"event": 3, "images": "many"}\n',
        b'{"event": "tick", "images": 0, "kimg": "a", "losses": {"b": null}}\n',
        b"[" * 10**5 + b"\n",
        b"\0" * 999,
    ],
    ids=["bytes", "no-records", "no-fields", "types", "tick", "deep", "zeros"],
)
def test_a_damaged_log_does_not_prevent_a_resume(folder, damage):
    log = folder / "log.jsonl"
    log.write_bytes(damage + log.read_bytes() + damage)
    resumed = run(None, folder, steps=7, resume=True, log_every_kimg=0.008)
    assert [tick["images"] for tick in resumed.log] == [16, 32, 48, 56]


def test_a_run_killed_before_its_first_checkpoint_resumes_with_its_options(tmp_path, monkeypatch):
    options = {"seed": 3, "flip": True, "resize_filter": "box", "precision": "bf16", "batch_size": 4}
    start = run(LAZY, tmp_path / "start", steps=1).folder
    options["init_generator"] = start
    expected = run(LAZY, tmp_path / "expected", steps=2, **options)

    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingLoop, "step", kill)
        with pytest.raises(KeyboardInterrupt):
            run(LAZY, tmp_path / "run", steps=2, **options)
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()
    for spec in (None, LAZY):  # with the original document too: what options replaced is not forgotten
        record = read_record(RunFolder(tmp_path / "run"))
        assert (record.seed, record.precision, record.init_generator) == (3, "bf16", str(start))
        resumed = run(spec, tmp_path / "run", steps=2, resume=True, data=None)
        assert different_tensors(resumed.folder, expected.folder) == []


def test_a_run_without_record_and_checkpoint_cannot_be_resumed(tmp_path):
    run(LAZY, tmp_path / "run", steps=1)
    for name in ("checkpoint.safetensors", "run.json"):
        (tmp_path / "run" / name).unlink()
    with pytest.raises(RunError, match=r"neither checkpoint.safetensors nor run.json, so the run cannot be resumed"):
        run(None, tmp_path / "run", resume=True)
    (tmp_path / "run" / "run.json").write_text('{"seed": 0')
    with pytest.raises(RunError, match=r"run.json is damaged: JSON: "):
        run(None, tmp_path / "run", resume=True)


def test_a_finished_run_has_nothing_left_to_do(folder, capfd):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for kimg in (0.048, 0.02, None):
        again = train(None, out=folder, resume=True, kimg=kimg)
        length = "0.048" if kimg != 0.02 else "0.024"
        assert f"nothing left to do: {folder} has 0.048 kimg, and its length is {length}" in capfd.readouterr().err
        assert [tick["images"] for tick in again.log] == [16, 32, 48]
        assert again.generator.mapping is not None
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert len(run(None, folder, resume=True, steps=8).log) == 4


def test_a_model_older_than_its_checkpoint_is_written_again(tmp_path):
    folder = run(LAZY, tmp_path / "run", steps=2).folder
    older = (folder / "model.safetensors").read_bytes()
    expected = (run(None, folder, steps=4, resume=True).folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(older)  # as if killed between the two files
    run(None, folder, steps=4, resume=True)
    assert load_file(folder / "model.safetensors").keys() == load_file(tmp_path / "run/model.safetensors").keys()
    metadata = read_metadata(folder / "model.safetensors")["extra"]
    assert (metadata["images"], metadata["step"]) == (32, 4)
    assert len((folder / "model.safetensors").read_bytes()) == len(expected)


def test_another_document_cannot_be_resumed(finished):
    other = tiny.gan(
        regularizers=[{"kind": "r1", "gamma": 2.0, "every": 2}], batch_size=4, augment=None, loss="hinge", flip=True
    )
    with pytest.raises(RunError) as error:
        run(other, finished.folder, resume=True)
    lines = str(error.value).splitlines()[1:]
    assert [line.strip() for line in lines] == [
        "loss: non-saturating -> hinge",
        "regularizers.0.gamma: 1.0 -> 2.0",
        "augment: diffaugment -> None",
        "batch_size: 8 -> 4",
        "flip: False -> True",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, "--seed: the run was started with 0, not 1; omit --seed to resume it"),
        ({"precision": "bf16"}, "--precision: the run was started with fp32, not bf16"),
        ({"init_generator": "other"}, "--init-generator: the run was started with None, not other"),
        ({"flip": True}, "flip: False -> True"),
        ({"resize_filter": "box"}, "resize_filter: lanczos -> box"),
        ({"batch_size": 4}, "batch_size: 8 -> 4"),
        ({"data": digits("held-out", 16, 3)}, "the run was started on 1437 images, but digits has 360"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_that_change_the_numbers_cannot_be_resumed(finished, options, message):
    before = (finished.folder / "checkpoint.safetensors").read_bytes()
    with pytest.raises(RunError, match=message):
        run(LAZY, finished.folder, resume=True, steps=8, **options)
    assert (finished.folder / "checkpoint.safetensors").read_bytes() == before


def test_options_may_be_repeated_to_resume(tmp_path):
    options = {"seed": 1, "precision": "bf16", "flip": True, "batch_size": 4}
    run(LAZY, tmp_path / "run", steps=1, **options)
    assert run(LAZY, tmp_path / "run", steps=2, resume=True, **options).log


def test_precision_is_resumed_by_default(tmp_path):
    run(LAZY, tmp_path / "whole", steps=2, precision="bf16")
    run(LAZY, tmp_path / "parts", steps=1, precision="bf16")
    run(None, tmp_path / "parts", steps=2, resume=True)
    assert different_tensors(tmp_path / "parts", tmp_path / "whole") == []
    run(LAZY, tmp_path / "fp32", steps=2)
    assert different_tensors(tmp_path / "fp32", tmp_path / "whole")


def test_other_images_of_the_same_number_cannot_be_resumed(tmp_path):
    data = write_images(tmp_path / "images", 12)
    run(LAZY, tmp_path / "run", steps=1, data=data)
    (data / "005.png").write_bytes((data / "006.png").read_bytes())
    with pytest.raises(RunError, match=r"has as many images as the run was started on, but others \(fingerprint"):
        run(None, tmp_path / "run", steps=2, resume=True, data=data)


def test_changes_of_the_environment_are_shown_and_logged(folder, capfd):
    file = folder / "checkpoint.safetensors"
    metadata = checkpoint_metadata(folder)
    metadata |= {"processes": 2, "device": "cuda", "versions": metadata["versions"] | {"torch": "1.0"}}
    save_file(checkpoint(folder), file, {"format": "ganblocks-training-1", "ganblocks": json.dumps(metadata)})
    run(None, folder, steps=7, resume=True, quiet=False)
    shown = capfd.readouterr().err
    for change in ("processes 2, it continues with 1", "device cuda, it continues with cpu", "torch 1.0, it continues"):
        assert f"warning: the run was started with {change}" in shown
    assert sum(record["event"] == "warning" for record in log_records(folder)) == 3


def test_the_command_that_resumes_repeats_what_the_run_does_not_record(monkeypatch):
    options = TrainOptions(seed=3, precision="bf16", workers=0, quiet=True, device="cpu", log_every_kimg=2)
    expected = "ganblocks train --resume --out 'my run' --device cpu --workers 0 --log-every-kimg 2.0 --quiet"
    assert resume_command(options, Path("my run"), 1) == expected
    assert resume_command(TrainOptions(), Path("run"), 1) == "ganblocks train --resume --out run"
    two = resume_command(TrainOptions(), Path("run"), 2)
    assert two == "torchrun --nproc-per-node 2 -m ganblocks train --resume --out run"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    eight = resume_command(TrainOptions(), Path("run"), 8)
    assert eight == "ganblocks train --resume --out run  # on 8 processes, launched as before"


def test_there_has_to_be_a_run_to_resume(tmp_path):
    with pytest.raises(RunError, match="is not a folder, so there is nothing to resume"):
        run(None, tmp_path / "nowhere", resume=True)
    with pytest.raises(RunError, match="has no run in it"):
        run(None, tmp_path, resume=True)


def test_a_run_without_a_later_option_can_be_resumed(tmp_path):
    old = parse(tiny.gan()).to_dict()
    del old["ema"]["start_kimg"], old["generator_optimizer"]["warmup_kimg"]
    record = RunRecord(
        spec=old, seed=0, precision="fp32", data="digits", num_images=1, fingerprint="", processes=1, device="cpu"
    )
    assert _resolved(parse(old), {}, record, RunFolder(tmp_path)).ema.start_kimg == 0
    with pytest.raises(RunError, match=r"ema.start_kimg: 0.0 -> 1.0"):
        _resolved(parse(tiny.gan(ema={"start_kimg": 1})), {}, record, RunFolder(tmp_path))


@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty", "model"])
def test_a_damaged_checkpoint_is_refused(folder, damage):
    path = folder / "checkpoint.safetensors"
    whole = path.read_bytes()
    model = (folder / "model.safetensors").read_bytes()
    path.write_bytes(
        {"truncated": whole[: len(whole) // 2], "foreign": b"PK" * 99, "empty": b"", "model": model}[damage]
    )
    message = "not the checkpoint of a training" if damage == "model" else "cannot be read"
    with pytest.raises(CheckpointError, match=message):
        run(None, folder, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, metadata: tensors.pop(next(iter(tensors))), "missing: "),
        (lambda tensors, metadata: tensors.update(more=torch.zeros(2)), "unexpected: more"),
        (lambda tensors, metadata: tensors.update({next(iter(tensors)): torch.zeros(2, 3)}), "in the file"),
        (lambda tensors, metadata: tensors.update({k: v.half() for k, v in tensors.items()}), "float16'. in the file"),
        (lambda tensors, metadata: metadata.pop("seed"), "is damaged: seed: Field required"),
        (lambda tensors, metadata: metadata.update(step=-1), "is damaged: step: "),
        (lambda tensors, metadata: metadata.update(spec=[]), "is damaged: spec: "),
        (lambda tensors, metadata: metadata.clear(), "is damaged"),
    ],
)
def test_a_checkpoint_of_other_networks_or_with_wrong_metadata_is_refused(folder, change, message):
    tensors, metadata = checkpoint(folder), checkpoint_metadata(folder)
    change(tensors, metadata)
    file = folder / "checkpoint.safetensors"
    save_file(tensors, file, {"format": "ganblocks-training-1", "ganblocks": json.dumps(metadata)})
    with pytest.raises(CheckpointError, match=message):
        run(None, folder, steps=8, resume=True)


@pytest.mark.parametrize("moment", ["step", "exp_avg", "exp_avg_sq"])
def test_a_checkpoint_with_incomplete_moments_is_refused(folder, moment):
    tensors, metadata = checkpoint(folder), checkpoint_metadata(folder)
    name = next(name for name in tensors if name.startswith("optimizer.") and name.endswith(f".{moment}"))
    del tensors[name]
    save_file(
        tensors,
        folder / "checkpoint.safetensors",
        {"format": "ganblocks-training-1", "ganblocks": json.dumps(metadata)},
    )
    with pytest.raises(CheckpointError, match=f"missing: {name}"):
        run(None, folder, steps=8, resume=True)


def test_a_trained_condition_resumes_bit_for_bit_with_path_length(clip_weights, tmp_path):
    document = tiny.gan(
        generator=tiny.GENERATOR | clip_condition(clip_weights, embed_weights=True),
        trainable={"condition": True},
        regularizers=["r1", {"kind": "path-length", "every": 2, "batch_shrink": 2}],
        style_mixing=0.5,
    )
    run(document, tmp_path / "whole", steps=4)
    run(document, tmp_path / "parts", steps=2)
    run(None, tmp_path / "parts", steps=4, resume=True)
    assert different_tensors(tmp_path / "parts", tmp_path / "whole") == []
    tensors = checkpoint(tmp_path / "whole")
    assert tensors["gan.regularizers.1.mean"] > 0
    begun = load_file(clip_weights)["text_projection"]
    assert not torch.equal(tensors["gan.generator.condition.tower.text_projection"], begun)

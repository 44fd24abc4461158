"""Checkpoints in shards: read without processes, and refused if a file is missing, damaged or elsewhere."""

from __future__ import annotations

import errno
import json
import os

import pytest
import torch
from safetensors.torch import save_file

from assemblies import CheckpointError
from ganblocks.errors import RunError
from ganblocks.training.checkpoint import FORMAT, checkpoint_tensors, load_checkpoint, read_checkpoint_record
from ganblocks.training.run import checkpoint_writer
from ganblocks.training.run.checkpoint_writer import CheckpointWriter
from ganblocks.training.run.folder import RunFolder
from ganblocks.training.run.shards import Shards
from ganblocks.training.warm_start import discriminator_tensors
from tests.training.conftest import LAZY, checkpoint, checkpoint_metadata, new_trainer, run

TWO_PARTS = {"shard-00001-model-00001-of-00001.safetensors", "shard-00002-model-00001-of-00001.safetensors"}


def write_record(folder, shards):
    """A checkpoint without tensors that lists shards."""
    metadata = {**checkpoint_metadata(folder), "shards": shards}
    path = folder / "checkpoint.safetensors"
    save_file({}, path, metadata={"format": FORMAT, "ganblocks": json.dumps(metadata)})
    return path


@pytest.fixture
def sharded(folder):
    """A finished run whose tensors are in two shards, as two processes write them; and the tensors."""
    tensors = checkpoint(folder)
    shards = folder / "checkpoint-shards-1"
    shards.mkdir()
    rows = {name: value for name, value in tensors.items() if value.dim() and len(value) > 1}
    halves = [{}, {}]
    for name, value in tensors.items():
        half = len(value) // 2 if name in rows else None
        halves[0][name] = (value[:half].contiguous() if half else value, [0] * value.dim())
        if half:
            halves[1][name] = (value[half:].contiguous(), [half, *[0] * (value.dim() - 1)])
    for name, part in zip(sorted(TWO_PARTS), halves, strict=True):
        offsets = {key: {"saved_offsets": offset} for key, (_, offset) in part.items()}
        values = {key: value for key, (value, _) in part.items()}
        save_file(values, shards / name, metadata={"DCP_SHARDING_INFO": json.dumps(offsets)})
    write_record(folder, Shards.of(shards).model_dump())
    return folder, tensors


def test_shards_are_read_without_processes(sharded):
    folder, tensors = sharded
    record = read_checkpoint_record(folder / "checkpoint.safetensors")
    assert record.shards is not None
    assert record.shards.files.keys() == TWO_PARTS
    trainer = new_trainer(LAZY, seed=1)
    load_checkpoint(folder / "checkpoint.safetensors", trainer)
    loaded = checkpoint_tensors(trainer)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], value) for name, value in tensors.items())
    assert trainer.step == record.step
    discriminator = discriminator_tensors(folder)
    assert discriminator
    assert all(torch.equal(tensors[f"gan.discriminator.{name}"], value) for name, value in discriminator.items())
    run(None, folder, steps=7, resume=True, data=None)
    assert not (folder / "checkpoint-shards-1").exists()  # the checkpoint is one file again
    assert checkpoint_metadata(folder)["step"] == 7


def damage(file):
    file.write_bytes(b"\xff" * file.stat().st_size)


def change_offsets(offset):
    """Let a file have other offsets of its tensors, of equal length in bytes."""

    def change(file):
        content = file.read_bytes()
        old, new = (f'\\"saved_offsets\\": [{each}'.encode() for each in ("8", offset))
        assert content.count(old) > 1
        file.write_bytes(content.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.unlink(), r"does not have the 2 files of .*checkpoint.safetensors.*; copy a run folder"),
        (lambda file: file.write_bytes(file.read_bytes()[:-4]), "or not with the same sizes"),
        (damage, "checkpoint-shards-1 cannot be read .*; the files are damaged"),
        (change_offsets(9), r"cannot be read \(parts of \S+ are missing\); the files are damaged"),
    ],
    ids=["missing", "cut short", "damaged", "of other parts"],
)
def test_missing_and_damaged_shards_are_refused(sharded, change, message):
    folder, _ = sharded
    change(folder / "checkpoint-shards-1" / max(TWO_PARTS))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder / "checkpoint.safetensors", new_trainer(LAZY))
    with pytest.raises(CheckpointError, match=message):
        discriminator_tensors(folder)


def test_shards_of_another_document_and_of_another_folder_are_refused(sharded):
    folder, _ = sharded
    (folder / "checkpoint-shards-2").mkdir()
    path = write_record(folder, {"folder": "checkpoint-shards-2", "files": {}})
    with pytest.raises(CheckpointError, match="does not match its document\n  missing: "):
        load_checkpoint(path, new_trainer(LAZY))
    path = write_record(folder, {"folder": "../checkpoint-shards-1", "files": {}})
    with pytest.raises(CheckpointError, match=r"is damaged: shards\.folder"):
        load_checkpoint(path, new_trainer(LAZY))


def test_no_two_checkpoints_have_a_folder_of_the_same_name(sharded):
    folder, _ = sharded
    (folder / "checkpoint-shards-1").rename(folder / "checkpoint-shards-9")
    write_record(folder, Shards.of(folder / "checkpoint-shards-9").model_dump())
    unfinished = folder / "checkpoint-shards-10" / "shard-00003-model-00001-of-00001.safetensors"
    unfinished.parent.mkdir()
    unfinished.touch()
    writer = CheckpointWriter(RunFolder(folder), new_trainer(LAZY), {}, background=False)
    assert [writer.next_shards().name for _ in range(2)] == ["checkpoint-shards-10", "checkpoint-shards-11"]
    assert not unfinished.exists()
    assert len(list((folder / "checkpoint-shards-9").iterdir())) == 2


def test_shards_of_a_checkpoint_that_cannot_be_written_are_removed(sharded, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder, _ = sharded
    new = folder / "checkpoint-shards-2"
    new.mkdir()
    (new / max(TWO_PARTS)).touch()
    writer = CheckpointWriter(RunFolder(folder), new_trainer(LAZY), {}, background=False)
    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", full)
    with pytest.raises(RunError, match="No space left on device"):
        writer.finish({}, {}, lambda path: None, 100, new, None)
    assert [path.name for path in folder.glob("checkpoint-shards-*")] == ["checkpoint-shards-1"]
    load_checkpoint(folder / "checkpoint.safetensors", new_trainer(LAZY))

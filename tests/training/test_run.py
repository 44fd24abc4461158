"""A run folder when processes are killed, disks are full, and two trainings want it."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from assemblies.model_file import read_metadata
from ganblocks.errors import RunError
from ganblocks.training.run import lock
from ganblocks.training.run.folder import RunFolder, disk_errors
from tests.budget import number_of_cases
from tests.training.conftest import (
    LAZY,
    ROOT,
    checkpoint_metadata,
    different_tensors,
    log_records,
    run,
    start_command,
    wait_until,
)

HOLD = "import sys, time; from ganblocks.training.run.lock import run_lock; from pathlib import Path\n"
HOLD += "with run_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"


@contextmanager
def holder(path):
    """Another process that holds a lock."""
    command = [sys.executable, "-c", HOLD, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_second_training_in_the_same_folder_is_refused(tmp_path):
    folder = run(LAZY, tmp_path / "run", steps=1).folder
    before = (folder / "log.jsonl").read_bytes()
    with holder(folder / "run.lock") as process:
        message = f"{folder}: process {process.pid} on {socket.gethostname()} is training in this folder"
        with pytest.raises(RunError, match=message):
            run(None, folder, steps=2, resume=True)
    assert (folder / "log.jsonl").read_bytes() == before
    assert (folder / "run.lock").exists()  # the process was killed; its lock is not
    assert run(None, folder, steps=2, resume=True).log
    assert not (folder / "run.lock").exists()


def test_a_second_training_of_the_same_process_is_refused(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with folder.locked(), pytest.raises(RunError, match=f"process {os.getpid()} on "):
        run(LAZY, folder.path)
    with folder.locked():
        pass


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        ("", False),
        ("[]", False),
        ("\x00damaged", False),
        (json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1}), False),
        (json.dumps({"host": socket.gethostname(), "pid": os.getppid()}), True),
        (json.dumps({"host": "elsewhere", "pid": 1}), True),
    ],
    ids=["empty", "list", "damaged", "stale", "alive", "other-host"],
)
def test_without_locks_of_the_file_system_the_holder_in_the_file_decides(tmp_path, monkeypatch, content, refused):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "lockf", unsupported)
    path = tmp_path / "run.lock"
    path.write_text(content)
    if refused:
        with pytest.raises(RunError, match=r"If it does not run any more, delete .*run.lock"), lock.run_lock(path):
            pass
        assert path.read_text() == content
    else:
        with lock.run_lock(path):
            assert json.loads(path.read_text())["pid"] == os.getpid()
        assert not path.exists()


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    folder = run(LAZY, tmp_path / "run", steps=1).folder
    left = [folder / name for name in (".checkpoint.safetensors.new", "..model.safetensors.new.k2j9", ".run.json.abc")]
    left += [folder / "samples" / ".000000.000kimg.png.abc", folder / ".writable.abc"]
    kept = [folder / name for name in (".hidden", "checkpoint.safetensors.bak", "samples/mine.png")]
    for path in left + kept:
        path.touch()
    run(None, folder, steps=2, resume=True)
    assert not [path for path in left if path.exists()]
    assert all(path.exists() for path in kept)


@contextmanager
def largest_file(num_bytes):
    """No file may grow beyond so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    """The folder of a run of two steps, to copy."""
    return run(LAZY, tmp_path_factory.mktemp("two") / "run", steps=2).folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of an uninterrupted run of four steps."""
    return run(LAZY, tmp_path_factory.mktemp("four") / "run", steps=4).folder


@pytest.mark.parametrize("num_bytes", [300_000, 60_000, 5_000, 600, 0])
def test_a_write_that_fails_leaves_the_last_state(tmp_path, two_steps, whole, num_bytes):
    """The limit lets through: the model only, the sample images, the documents, the first log lines, nothing."""
    folder = shutil.copytree(two_steps, tmp_path / "run")
    files = [folder / name for name in ("checkpoint.safetensors", "model.safetensors", "gan.yaml")]
    before = [path.read_bytes() for path in files[:2]]
    with largest_file(num_bytes), pytest.raises(RunError, match=r"needed, .* free; the file is as it was. Free some"):
        run(None, folder, steps=4, resume=True)
    assert [path.read_bytes() for path in files[:2]] == before
    assert not list(folder.glob(".*"))
    run(None, folder, steps=4, resume=True)
    assert different_tensors(folder, whole) == []
    assert [record["images"] for record in log_records(folder) if record["event"] == "tick"] == [16, 32]


def test_a_full_disk_is_an_error_with_file_sizes_and_cure(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(
        RunError, match=rf"^{path}: No space left on device: 2.5 MB needed, [\d.]+ MB free; .* --resume"
    ):
        with disk_errors(path, 2_500_000):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(PermissionError), disk_errors(path, 1):
        raise PermissionError


def test_the_model_is_never_newer_than_its_checkpoint(tmp_path, monkeypatch):
    folder = run(LAZY, tmp_path / "run", steps=2).folder
    steps = []
    original = os.replace

    def replace(source, target):
        original(source, target)
        if Path(target).parent == folder:
            model = read_metadata(folder / "model.safetensors")["extra"]["step"]
            steps.append((checkpoint_metadata(folder)["step"], model))

    monkeypatch.setattr(os, "replace", replace)
    run(None, folder, steps=4, resume=True, save_every_seconds=0)
    assert steps[-1] == (4, 4)
    assert all(checkpoint >= model for checkpoint, model in steps)
    assert (4, 2) in steps


def num_records(folder):
    return len(log_records(folder)) if (folder / "log.jsonl").exists() else 0


def has_logged(folder, before):
    return num_records(folder) > before


def is_writing(folder, _before):
    return any(path.name.startswith((".checkpoint", ".model")) for path in folder.iterdir())


@pytest.mark.slow
def test_runs_survive_kills_at_any_time(tmp_path):
    """The process is killed again and again, and the numbers in the end are those of an uninterrupted run."""
    (tmp_path / "gan.json").write_text(json.dumps(LAZY))
    options = ["--log-every-kimg", "0.008", "--save-every-seconds", "0", "--quiet", "--kimg", "0.4", "--workers", "0"]
    run(LAZY, tmp_path / "whole", steps=50, seed=7)
    folder = tmp_path / "run"
    arguments = ["gan.json", "--data", "digits", "--seed", "7"]
    for number in range(number_of_cases(3, 8)):
        process = start_command(*arguments, "--out", "run", *options, cwd=tmp_path)
        wait_until(partial(is_writing if number % 2 else has_logged, folder, num_records(folder)), process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        arguments = ["--resume"]
    assert start_command("--resume", "--out", "run", *options, cwd=tmp_path).wait(timeout=600) == 0
    assert different_tensors(folder, tmp_path / "whole") == []
    assert not list(folder.glob(".*"))

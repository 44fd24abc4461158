"""Signals, dead and hanging workers: the state is saved, and the message says how to continue."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys

import pytest

from ganblocks.data import decode_workers
from ganblocks.data.loader import Sampler, batches
from ganblocks.data.sources import open_data
from ganblocks.errors import DataError
from ganblocks.training import loop
from ganblocks.training.signals import StopSignal
from tests import tiny
from tests.training.conftest import (
    LAZY,
    checkpoint_metadata,
    different_tensors,
    log_records,
    run,
    start_command,
    wait_until,
    write_images,
)

STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]
FROM_FILES = (  # the command, with worker processes for small data sets too
    "from ganblocks.data import sources; sources.open_data.__kwdefaults__['in_memory'] = 0; "
    "from ganblocks.cli.app import main; main()"
)


@pytest.fixture
def long_run(tmp_path):
    """The document of a run that no test waits for."""
    path = tmp_path / "gan.yaml"
    path.write_text(str(tiny.gan(kimg=1000)))
    return path


def logged_a_tick(folder):
    log = folder / "log.jsonl"
    return lambda: log.exists() and '"tick"' in log.read_text()


def children_of(pid):
    """Processes that a process started, without the one in which multiprocessing counts semaphores."""
    listed = subprocess.run(["pgrep", "-a", "-P", str(pid)], capture_output=True, text=True)
    lines = [line for line in listed.stdout.splitlines() if "resource_tracker" not in line]
    return [int(line.split()[0]) for line in lines]


@pytest.mark.parametrize("signum", STOPS)
def test_the_first_signal_is_stored_and_the_second_acts_as_usual(signum):
    received = []
    before = signal.signal(signum, lambda number, _: received.append(number))
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), signum)
            assert (stop.signum, stop.received, received) == (signum, True, [])
            os.kill(os.getpid(), signum)
            assert received == [signum]
    finally:
        signal.signal(signum, before)


def test_signals_that_a_launcher_passes_on_are_one_stop(monkeypatch):
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    seconds = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: seconds[0])
    try:
        with StopSignal(merge_seconds=5.0):
            for seconds[0] in (0.0, 1.0, 4.9):
                os.kill(os.getpid(), signal.SIGTERM)
            assert received == []
            seconds[0] = 5.0
            os.kill(os.getpid(), signal.SIGTERM)
            assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_process_started_by_nohup_ignores_the_closed_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.received
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interrupted_training_saves_its_state_and_prints_how_to_continue(tmp_path, long_run):
    options = ["--log-every-kimg", "0.016", "--save-every-seconds", "1e9"]
    process = start_command(long_run, "--data", "digits", "--out", "my run", *options, cwd=tmp_path)
    folder = tmp_path / "my run"
    wait_until(logged_a_tick(folder), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 128 + signal.SIGINT, errors
    assert "Traceback" not in errors
    assert re.search(r"stopped at \S+ of 1000 kimg; the state is saved", errors)
    assert "ganblocks train --resume --out 'my run' --log-every-kimg 0.016 --save-every-seconds 1000000000.0" in errors
    assert not (folder / "run.lock").exists()
    step = checkpoint_metadata(folder)["step"]
    run(None, folder, steps=step + 2, resume=True, data=None)
    run(tiny.gan(), tmp_path / "whole", steps=step + 2)
    assert different_tensors(folder, tmp_path / "whole") == []
    ticks = [record["images"] for record in log_records(folder) if record["event"] == "tick"]
    assert ticks == sorted(set(ticks))


def test_a_closed_terminal_saves_the_state(tmp_path, long_run):
    terminal, end = pty.openpty()
    options = ["--data", "digits", "--out", "run", "--log-every-kimg", "0.016"]
    process = start_command(long_run, *options, cwd=tmp_path, stdin=end, stdout=end, stderr=end)
    os.close(end)
    wait_until(logged_a_tick(tmp_path / "run"), process)
    os.close(terminal)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=600) == 128 + signal.SIGHUP
    assert checkpoint_metadata(tmp_path / "run")["step"] >= 2
    assert log_records(tmp_path / "run")[-1]["event"] == "interrupted"


def start_on_files(tmp_path, long_run, workers=2):
    """A training with worker processes."""
    write_images(tmp_path / "images", 40)
    options = ["--data", "images", "--out", "run", "--log-every-kimg", "0.016", "--workers", workers]
    process = start_command(long_run, *options, cwd=tmp_path, program=["-c", FROM_FILES, "train"])
    wait_until(logged_a_tick(tmp_path / "run"), process)
    return process, children_of(process.pid)


def test_a_signal_to_all_processes_saves_the_state(tmp_path, long_run):
    process, workers = start_on_files(tmp_path, long_run)
    assert len(workers) == 2
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert "the state is saved" in errors
    assert "Traceback" not in errors
    assert checkpoint_metadata(tmp_path / "run")["step"] >= 2


def test_a_killed_worker_ends_the_training_after_it_saved_its_state(tmp_path, long_run, monkeypatch):
    process, workers = start_on_files(tmp_path, long_run)
    os.kill(workers[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 2, errors
    assert f"a worker that decodes images died (process {workers[0]} ended with code -9" in errors
    assert "the state is saved. Continue with:\n  ganblocks train --resume --out run" in errors
    assert "Traceback" not in errors
    step = checkpoint_metadata(tmp_path / "run")["step"]
    assert step >= 2
    assert log_records(tmp_path / "run")[-1]["event"] == "data-error"
    monkeypatch.chdir(tmp_path)
    assert run(None, tmp_path / "run", steps=step + 1, resume=True, data=None).log


def test_a_read_that_never_ends_does_not_keep_the_process():
    code = "import threading; from ganblocks.data.decode_workers import _next_in_thread as read; "
    code += "read(iter(threading.Event().wait, None))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_signal_while_a_worker_hangs_saves_the_state(tmp_path, long_run):
    process, workers = start_on_files(tmp_path, long_run)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130, errors
    assert "the state is saved" in errors
    assert checkpoint_metadata(tmp_path / "run")["step"] >= 2
    assert children_of(process.pid) == []


def stop_workers():
    for worker in children_of(os.getpid()):
        os.kill(worker, signal.SIGSTOP)


@pytest.fixture
def stream(tmp_path):
    """Batches of two workers, and the signal handler of the test process before."""
    images = open_data(write_images(tmp_path / "images", 8), resolution=16, in_memory=0)
    stopped = []
    stream = batches(images, Sampler(8, seed=0), position=0, batch_size=4, workers=2, stopped=lambda: bool(stopped))
    return stream, stopped


def test_workers_that_deliver_nothing_are_an_error(stream, monkeypatch):
    stream, _ = stream
    monkeypatch.setattr(decode_workers, "TIME_LIMIT", 1.0)
    next(stream)
    stop_workers()
    with pytest.raises(DataError, match="have delivered nothing for 1 seconds; check the disk"):
        list(stream)
    assert children_of(os.getpid()) == []


def test_batches_end_while_waiting_when_the_training_is_stopped(stream):
    stream, stopped = stream
    next(stream)
    stop_workers()
    stopped.append(True)
    assert len(list(stream)) <= 4  # those that were ready
    assert children_of(os.getpid()) == []


def test_no_handler_interrupts_a_step_when_a_worker_ends(stream):
    stream, _ = stream
    before = signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        next(stream)
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
        stream.close()
        assert callable(signal.getsignal(signal.SIGCHLD))
        assert children_of(os.getpid()) == []
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_data_that_can_no_longer_be_read_end_the_training_after_it_saved_its_state(tmp_path, monkeypatch):
    original = loop.batches

    def failing(*args, **options):
        stream = original(*args, **options)
        for _ in range(3):
            yield next(stream)
        raise DataError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "batches", failing)
        with pytest.raises(DataError, match=r"the disk is gone\nstopped at 0.024 of 0.048 kimg; the state is saved"):
            run(LAZY, tmp_path / "run")
    run(None, tmp_path / "run", resume=True)
    run(LAZY, tmp_path / "whole")
    assert different_tensors(tmp_path / "run", tmp_path / "whole") == []

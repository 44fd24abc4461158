"""The sandbox of these tests reports programs, connections, files, crashes, hangs, memory and tracebacks."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from assemblies import CheckpointError
from tests.assemblies.unpickling.test_limits import program
from tests.reliability import sandbox
from tests.reliability.checkpoints import CALLS, as_called
from tests.reliability.sandbox import failures, run_sandboxed


def refuse() -> None:
    raise CheckpointError("is damaged")


def busy() -> None:
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass


BREACHES: dict[str, tuple[Callable[[], object], str]] = {
    "a program": (lambda: os.system("true"), "BreachError: os.system"),
    "a process": (lambda: subprocess.run(["true"], check=False), "BreachError: subprocess.Popen"),
    "a connection": (lambda: socket.create_connection(("127.0.0.1", 9)), "BreachError: socket."),
    "a forbidden file": (lambda: Path("/secret").read_text(), "BreachError: open"),
    "a traceback": (lambda: {}["key"], "KeyError"),
    "an exit": (lambda: exit(0), "SystemExit"),
    "a crash": (lambda: os.kill(os.getpid(), signal.SIGSEGV), "ended with code -11"),
    "a hang": (lambda: time.sleep(60), "hangs"),
    "a long computation": (busy, "computation: 0."),
    "too much memory": (lambda: torch.ones(2**32), "allocate memory"),
}


def test_what_files_may_not_do_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 0.3)
    monkeypatch.setattr(sandbox, "HANGS", 6.0)
    monkeypatch.setattr(sandbox, "MEMORY", 2**29)
    cases = [
        ("nothing", lambda: None),
        ("an error of ours", refuse),
        *((name, case[0]) for name, case in BREACHES.items()),
    ]
    outcomes = run_sandboxed(
        lambda call: call[0](),
        [(name, lambda call=call: (call,)) for name, call in cases],
        forbidden_files=[Path("/secret")],
    )
    assert [each.name for each in outcomes] == [name for name, _ in cases]
    assert [each.kind for each in outcomes[:2]] == ["used", "refused"]
    assert failures(outcomes[:2]) == []
    reported = dict(zip(BREACHES, outcomes[2:], strict=True))
    for name, (_, part) in BREACHES.items():
        assert part in (reported[name].failure or ""), name


@pytest.mark.parametrize("name", ["os.system", "builtins.exec", "posix.system", "io.open"])
def test_the_calls_in_hostile_checkpoints_do_what_they_say(tmp_path: Path, name: str) -> None:
    pickle.loads(program(as_called(name, CALLS[name], str(tmp_path / "canary"), "reduce")))
    assert (tmp_path / "canary").exists()

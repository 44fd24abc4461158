"""A training of a few steps in a process of its own, which a test kills or limits at a chosen moment."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from assemblies import load_model
from assemblies.model_file import read_metadata
from ganblocks import train
from ganblocks.data.dataset import ImagesInMemory
from ganblocks.errors import RunError
from ganblocks.training.run.folder import RunFolder
from registry import catalogue
from tests import tiny
from tests.training.conftest import checkpoint, checkpoint_metadata, different_tensors

STEPS = 4  # each with a log line, samples and a checkpoint
FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate")
FULL_DISK, FAILED = 3, 4  # exit codes


def images() -> ImagesInMemory:
    pixels = torch.randint(256, (16, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImagesInMemory(pixels)


def load_libraries() -> None:
    """Import what a training imports, so that the processes that are started next need not."""
    catalogue.load()
    for name in ("accelerate", "matplotlib.pyplot", "torch._dynamo"):
        import_module(name)


def start(folder: Path, at_event: Callable[[int], None] = lambda number: None) -> BaseProcess:
    """Begin or resume the training in a folder.

    Args:
        folder: The run folder; `folder.txt` beside it gets the error's message.
        at_event: Called in the process before each operation on a file of the folder, with its number from 1.
    """
    process = multiprocessing.get_context("fork").Process(target=_train, args=(folder, at_event))
    process.start()
    return process


def finish(folder: Path, at_event: Callable[[int], None] = lambda number: None) -> int:
    """Begin or resume the training and wait for its end; the exit code, negative for a signal."""
    process = start(folder, at_event)
    process.join(120)
    assert process.exitcode is not None, "the training hangs"
    return process.exitcode


def message(folder: Path) -> str:
    """The message of the error that ended the last training."""
    return folder.with_suffix(".txt").read_text()


def _train(folder: Path, at_event: Callable[[int], None]) -> None:
    torch.set_num_threads(1)  # the parent's threads do not exist here
    sys.addaudithook(_count_events(folder, at_event))
    resume = RunFolder(folder).holds_run()
    options = {"kimg": STEPS * 0.008, "log_every_kimg": 0.008, "save_every_seconds": 1e-9, "workers": 0, "quiet": True}
    code = 0
    try:
        train(None if resume else tiny.gan(), images(), folder, resume=resume, **options)
    except RunError as error:
        code, text = FULL_DISK, str(error)
    except BaseException:
        code, text = FAILED, traceback.format_exc()
    if code:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        folder.with_suffix(".txt").write_text(text)
    os._exit(code)


def _count_events(folder: Path, at_event: Callable[[int], None]) -> Callable[[str, tuple[Any, ...]], None]:
    number, prefix, process = 0, str(folder), os.getpid()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal number
        if event in FILE_EVENTS and str(arguments[0]).startswith(prefix) and os.getpid() == process:
            number += 1
            at_event(number)

    return hook


def kill_at(event: int) -> Callable[[int], None]:
    def kill(number: int) -> None:
        if number == event:
            os.kill(os.getpid(), signal.SIGKILL)

    return kill


def check_readable(folder: Path) -> None:
    """Assert that each file that exists is whole, and that the model is not newer than the checkpoint."""
    run = RunFolder(folder)
    run.records()
    if run.model.exists():
        model = load_model(run.model)
        assert all(value.isfinite().all() for value in model.state_dict().values())
        assert read_metadata(run.model)["extra"]["step"] <= checkpoint_metadata(folder)["step"]
    if run.checkpoint.exists():
        assert checkpoint(folder)


def check_equal(folder: Path, expected: Path) -> None:
    """Assert that a training ended as another one that was never interrupted, with the same files."""
    assert different_tensors(folder, expected) == []
    generator, other = load_model(folder / "model.safetensors"), load_model(expected / "model.safetensors")
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in generator.state_dict().items())
    ticks = [record["images"] for record in RunFolder(folder).ticks()]
    assert ticks == [record["images"] for record in RunFolder(expected).ticks()]
    assert files_in(folder) == files_in(expected)


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}

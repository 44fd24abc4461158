"""Documents, short runs and comparisons that the tests of training share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from assemblies import parse
from ganblocks import train
from ganblocks.data.digits import digits
from ganblocks.randomness import WORKSPACE, WORKSPACES, seed_step
from ganblocks.sampling.grids import to_picture
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.run.folder import RunFolder
from ganblocks.training.trainer import Trainer
from plugins import clip_towers
from plugins.open_clip import TINY
from tests import tiny

ROOT = Path(__file__).parents[2]
os.environ.setdefault(WORKSPACE, WORKSPACES[0])  # before any test starts cuBLAS
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
    """Train some steps of 8 images on digits; the only checkpoint is the one at the end."""
    options = {
        "data": "digits",
        "kimg": steps * 0.008,
        "log_every_kimg": 0.016,
        "save_every_seconds": 1e9,
        "quiet": True,
        "workers": 0,
    } | options
    return train(document, options.pop("data"), out, **options)


def new_trainer(document=LAZY, seed=0, device="cpu", precision=None, **options):
    """A trainer with reproducible weights, on the CPU."""
    seed_step(seed, -1)
    return Trainer(parse(document), DistributedContext(device, precision), **options)


def real_images(count=8):
    return torch.rand(count, 3, 16, 16) * 2 - 1


def checkpoint(folder):
    return load_file(folder / "checkpoint.safetensors")


def checkpoint_metadata(folder):
    with safe_open(folder / "checkpoint.safetensors", framework="pt") as file:
        return json.loads(file.metadata()["ganblocks"])


def different_tensors(folder, other):
    """Names of the tensors that two runs' checkpoints do not share bit for bit."""
    tensors, others = checkpoint(folder), checkpoint(other)
    assert tensors.keys() == others.keys()
    return [name for name in tensors if not torch.equal(tensors[name], others[name])]


def log_records(folder):
    return RunFolder(folder).records()


def write_images(folder, count, split="train"):
    """A folder of digits as .png files."""
    folder.mkdir()
    for index, pixels in enumerate(digits(split, 16, 3).pixels[:count]):
        to_picture(pixels).save(folder / f"{index:03d}.png")
    return folder


def clip_condition(weights, **options):
    """The part of a generator's spec that makes it text-conditional."""
    return {"condition": {"kind": "open-clip-text", "model": TINY, "weights": str(weights), **options}}


def start_command(*arguments, cwd, program=("-m", "ganblocks", "train"), **options):
    """A process that runs `ganblocks train ...`, in a process group of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    command = [sys.executable, *program, *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, env=environment, start_new_session=True, **pipes)


def wait_until(condition: Callable[[], bool], process, seconds=600):
    """Wait until something holds or the process ends."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            pytest.fail(f"the process has ended: {process.communicate(timeout=60)[1]}")
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of six steps that tests only read."""
    return run(LAZY, tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of a finished run's folder, to change."""
    return Path(shutil.copytree(finished.folder, tmp_path / "run"))


@pytest.fixture
def trainer():
    return new_trainer()


@pytest.fixture(scope="session")
def clip_weights(tmp_path_factory):
    """Random weights of a tiny CLIP."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("towers") / "clip.safetensors"
    save_file(clip_towers.open_clip().model.CLIP(**TINY).state_dict(), path)
    return path

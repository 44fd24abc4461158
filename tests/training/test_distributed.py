"""Trainings of several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.training.conftest import (
    ROOT,
    checkpoint_metadata,
    different_tensors,
    log_records,
    wait_until,
)

GAN = """
import os
import signal
import sys
import torch
from pathlib import Path
from tests import tiny
from ganblocks import train
from ganblocks.errors import Interrupted
from ganblocks.training.distributed import destroy_process_group
from ganblocks.training.trainer import Trainer

gan = tiny.gan(
    regularizers=[{'kind': 'path-length', 'every': 2}], style_mixing=0.5,
    augment={'kind': 'ada', 'kimg': 0.1, 'target': -0.9},
)
options = dict(device='cpu', log_every_kimg=0.016, workers=0, quiet=True)
"""
AGREE = """
trainers = []
init = Trainer.__init__
Trainer.__init__ = lambda self, *args, **options: (init(self, *args, **options), trainers.append(self.gan))[0]
run = train(gan, 'digits', 'run', **options)
(trained,) = trainers
assert trained.augment.p > 0 and trained.regularizers[0].mean > 0
values = {'p': trained.augment.p[None], 'mean': trained.regularizers[0].mean[None]}
for name, value in [*run.generator.named_parameters(), *values.items()]:
    both = [torch.empty_like(value) for _ in range(2)]
    torch.distributed.all_gather(both, value.contiguous())
    assert torch.equal(*both), name
destroy_process_group()
"""
STOP = """
out, kimg = sys.argv[1], float(sys.argv[2])
try:
    train(None if Path(out).exists() else gan, 'digits', out, resume=Path(out).exists(), kimg=kimg, **options)
except Interrupted as error:
    Path(f"stopped-{os.environ['RANK']}").write_text(str(error))
destroy_process_group()
"""


def launch(folder, script, *arguments):
    """Two processes that run a script."""
    path = folder / "script.py"
    path.write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *map(str, arguments)], cwd=folder, env=environment, **pipes)


def finish(process):
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path):
    finish(launch(tmp_path, GAN + AGREE))
    records = log_records(tmp_path / "run")
    assert records[0]["processes"] == 2
    assert [record["images"] for record in records if record["event"] == "tick"] == [16, 32, 48]


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step_and_resume_bit_for_bit(tmp_path):
    process = launch(tmp_path, GAN + STOP, "parts", 1000)
    wait_until(lambda: any(record["event"] == "tick" for record in log_records(tmp_path / "parts")), process)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(children[-1]), signal.SIGTERM)  # one of them alone
    finish(process)
    messages = [(tmp_path / f"stopped-{rank}").read_text() for rank in (0, 1)]
    expected = "torchrun --nproc-per-node 2 -m ganblocks train --resume --out parts --device cpu --workers 0"
    assert all("the state is saved" in message and expected in message for message in messages)
    step = checkpoint_metadata(tmp_path / "parts")["step"]
    assert checkpoint_metadata(tmp_path / "parts")["processes"] == 2
    kimg = (step + 2) * 0.008
    finish(launch(tmp_path, GAN + STOP, "parts", kimg))
    finish(launch(tmp_path, GAN + STOP, "whole", kimg))
    assert different_tensors(tmp_path / "parts", tmp_path / "whole") == []

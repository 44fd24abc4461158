"""Trainings of several processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ganblocks.metrics.evaluate import evaluate
from ganblocks.training.checkpoint import checkpoint_tensors
from ganblocks.training.step.sharding import whole
from ganblocks.training.trainer import Trainer
from tests import tiny
from tests.budget import only_in_full
from tests.extractors import save_extractor
from tests.training.conftest import (
    ROOT,
    checkpoint_metadata,
    different_tensors,
    log_records,
    new_trainer,
    real_images,
    run,
    wait_until,
)
from tests.training.test_micro_batches import ADA, document, double, gradients, largest_difference  # noqa: F401

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


ON_FOUR = """
import json
from pathlib import Path
from ganblocks import train
from ganblocks.metrics.evaluate import evaluate
from ganblocks.training.distributed import destroy_process_group
from tests import tiny
from tests.training.test_distributed import measured, save_gradients, state_of

options = dict(kimg=0.016, device="cpu", log_every_kimg=0.008, save_every_seconds=0, workers=0, quiet=True)
train(tiny.gan(), "digits", "replicated", **options)
with state_of("state.safetensors"):
    train(tiny.gan(regularizers=[]), "digits", "sharded", strategy="fsdp", async_save=True, **options)
records = evaluate("sharded", **measured(Path()))
if records:  # in the first process
    Path("metrics.json").write_text(json.dumps(records))
save_gradients(None, "on-four.safetensors")
destroy_process_group()
"""
ON_TWO = """
import os
import pytest
import resource
import torch
from pathlib import Path
from safetensors.torch import load_file
from ganblocks import train
from ganblocks.errors import RunError
from ganblocks.training.checkpoint import checkpoint_tensors, load_checkpoint
from ganblocks.training.distributed import destroy_process_group
from ganblocks.training.step.sharding import whole
from tests import tiny
from tests.training.conftest import new_trainer
from tests.training.test_distributed import save_gradients

saved = load_file("state.safetensors")
for sharded in (True, False):
    trainer = new_trainer(tiny.gan(regularizers=[]), seed=1, sharded=sharded)
    load_checkpoint(Path("sharded/checkpoint.safetensors"), trainer)
    loaded = {name: whole(value.detach()) for name, value in checkpoint_tensors(trainer).items()}
    assert loaded.keys() == saved.keys()
    assert not [name for name in saved if not torch.equal(saved[name], loaded[name])]
options = dict(kimg=0.032, resume=True, device="cpu", log_every_kimg=0.008, save_every_seconds=0, workers=0, quiet=True)
train(None, None, "replicated", **options)
train(None, None, "sharded", strategy="fsdp", **options)
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
if os.environ["RANK"] == "1":  # the disk is full for one of them
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, unlimited[1]))
with pytest.raises(RunError, match="File too large: .* needed, .* continue with --resume"):
    train(None, None, "sharded", strategy="fsdp", async_save=True, **options | {"kimg": 0.048})
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
for micro_batch in (None, 3):
    save_gradients(micro_batch, f"on-two-{micro_batch}.safetensors")
destroy_process_group()
"""


@contextmanager
def state_of(path):
    """Writes the state of a training at its end, of sharded tensors the whole."""
    trainers = []
    with pytest.MonkeyPatch.context() as patch:
        init = Trainer.__init__
        patch.setattr(Trainer, "__init__", lambda self, *a, **b: (init(self, *a, **b), trainers.append(self))[0])
        yield
    (trainer,) = trainers
    state = {name: whole(value.detach()).contiguous() for name, value in checkpoint_tensors(trainer).items()}
    if trainer.distributed.is_main:
        save_file(state, path)


def measured(folder):
    """Options of a metric."""
    options = {"metrics": ["fid"], "data": "digits", "num": 61, "noise": "const", "device": "cpu", "no_cache": True}
    return options | {"settings": ["fid.extractor=torchscript"], "extractor_weights": [str(folder / "extractor.pt")]}


def whole_batch(micro_batch):
    """A trainer with regularizers of all kinds, and eight images; in float64."""
    torch.set_default_dtype(torch.float64)
    regularizers = ["lecam", "bcr", "approximate-r1", "gradient-penalty", {"kind": "r1", "every": 2}]
    regularizers.append({"kind": "path-length", "batch_shrink": 1, "every": 2})
    spec = document(regularizers=regularizers, augment=ADA, loss="relativistic", style_mixing=0.9)
    torch.manual_seed(1)
    return new_trainer(spec, micro_batch=micro_batch), real_images(8)


def save_gradients(micro_batch, path):
    """Write the gradients and buffers of a step of several processes, and its losses."""
    trainer, real = whole_batch(micro_batch)
    rank, size = trainer.distributed.shard.rank, trainer.batch_size
    values, buffers = gradients(trainer, real[rank * size :][:size], total=8, offset=rank * size)
    losses = trainer.distributed.means(trainer.losses.read())
    if rank == 0:
        tensors = {key: value.contiguous() for key, value in (values | buffers).items()}
        save_file(tensors, path, metadata={"losses": json.dumps(losses)})


def launch(folder, script, *arguments, processes=2, options=()):
    """Processes that run a script, or the command with arguments if it is None."""
    path = folder / "script.py"
    path.write_text(script or "from ganblocks.cli.app import main; main()")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [*command, *options, str(path), *map(str, arguments)],
        cwd=folder,
        env=environment,
        start_new_session=True,
        **pipes,
    )


def finish(process):
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path):
    finish(launch(tmp_path, GAN + AGREE))
    records = log_records(tmp_path / "run")
    assert records[0]["processes"] == 2
    assert [record["images"] for record in records if record["event"] == "tick"] == [16, 32, 48]
    run(None, tmp_path / "run", steps=8, resume=True, data=None)  # on one process
    metadata = checkpoint_metadata(tmp_path / "run")
    assert (metadata["processes"], metadata["images"]) == (1, 64)
    assert any("processes 2, it continues with 1" in str(each.get("text")) for each in log_records(tmp_path / "run"))


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


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_four_processes_have_the_numbers_of_one_and_their_runs_continue_on_two_and_on_one(tmp_path):
    torch.set_default_dtype(torch.float32)
    save_extractor(tmp_path / "extractor.pt")
    finish(launch(tmp_path, ON_FOUR, processes=4))
    (alone,) = evaluate(tmp_path / "sharded", **measured(tmp_path))
    (shared,) = json.loads((tmp_path / "metrics.json").read_text())
    assert (alone["processes"], shared["processes"]) == (1, 4)
    assert shared["values"] == pytest.approx(alone["values"], rel=1e-5)

    finish(launch(tmp_path, ON_TWO))
    for name in ("replicated", "sharded"):
        metadata = checkpoint_metadata(tmp_path / name)
        assert (metadata["processes"], metadata["images"]) == (2, 32)
        run(None, tmp_path / name, steps=6, resume=True, data=None)
        metadata = checkpoint_metadata(tmp_path / name)
        assert (metadata["processes"], metadata["images"]) == (1, 48)
        assert not list((tmp_path / name).glob("checkpoint-shards-*"))

    trainer, real = whole_batch(None)
    values, buffers = gradients(trainer, real)
    assert len(values) > 100
    expected = trainer.losses.read()
    del expected["collapse/separated"]  # of the images of one pass
    for name in ("on-four", "on-two-None", "on-two-3"):
        path = tmp_path / f"{name}.safetensors"
        assert largest_difference(load_file(path), values | buffers) < 1e-5
        with safe_open(path, framework="pt") as file:
            losses = json.loads(file.metadata()["losses"])
            assert {name: losses[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def stop_a_worker(process, folder, signum):
    """Send a signal to the process of rank 1 after the first checkpoint; the seconds until that of rank 0 has ended."""
    wait_until((folder / "checkpoint.safetensors").exists, process)
    listed = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout
    first, second = map(int, listed.split())
    os.kill(second, signum)
    sent = time.monotonic()
    wait_until(lambda: not Path(f"/proc/{first}").exists(), process)
    return time.monotonic() - sent


LAST_WORDS = {
    signal.SIGKILL: r"process 0 of 2 has lost another one, .* continue with --resume",
    signal.SIGUSR1: r"stopped at \S+ of 0.2 kimg; the state is saved. Continue with:\n  torchrun --nproc-per-node 2 -m",
}


@pytest.mark.slow
@only_in_full("a minute")
@pytest.mark.parametrize("signum", LAST_WORDS)
@pytest.mark.parametrize("options", [[], ["--async-save"]], ids=["", "async-save"])
def test_a_worker_that_is_killed_or_stopped_ends_the_run_and_a_restart_continues_it(tmp_path, signum, options):
    (tmp_path / "gan.yaml").write_text(json.dumps(tiny.gan(kimg=0.2)))
    options = ["--log-every-kimg", 0.016, "--save-every-seconds", 0, "--device", "cpu", "--quiet", *options]
    command = ["train", "gan.yaml", "--data", "digits", "--out", "run", "--resume", "auto", *options]
    process = launch(tmp_path, None, *command, options=["--max-restarts", "1"])
    assert stop_a_worker(process, tmp_path / "run", signum) < 60
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]
    assert re.search(LAST_WORDS[signum], errors), errors[-3000:]
    assert errors.count("the state is saved") <= 1  # of both processes the first says it
    assert checkpoint_metadata(tmp_path / "run")["images"] == 200
    events = [record["event"] for record in log_records(tmp_path / "run")]
    assert "resumed" in events
    assert events[-1] == "finished"
    assert not (tmp_path / "run" / "run.lock").exists()

"""Sharded networks: the same numbers as in one process, the same checkpoints, and what is refused."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from assemblies import parse
from ganblocks import train
from ganblocks.errors import RunError
from ganblocks.training.checkpoint import checkpoint_tensors
from ganblocks.training.step.sharding import check_shardable, whole
from ganblocks.training.trainer import Trainer
from tests import tiny
from tests.training.conftest import checkpoint_metadata, new_trainer, real_images, run
from tests.training.test_distributed import finish, launch
from tests.training.test_micro_batches import document, double, gradients, largest_difference  # noqa: F401

REGULARIZERS = ["lecam", {"kind": "approximate-r1", "every": 2}, "approximate-r2"]
SETTINGS: dict[str, Any] = {"compile": False, "cuda_graphs": False, "init_generator": None, "init_discriminator": None}
SHARDED = """
import torch
from safetensors.torch import save_file
from ganblocks import train
from ganblocks.training.distributed import destroy_process_group
from ganblocks.training.step.sharding import local
from tests.training.test_sharding import REGULARIZERS, three_steps
from tests import tiny

options = dict(device="cpu", log_every_kimg=0.016, workers=0, quiet=True, strategy="fsdp")
run = train(None, "digits", "run", resume=True, kimg=0.032, **options)
assert all(parameter.numel() for parameter in run.generator.parameters())
gan = tiny.gan(regularizers=REGULARIZERS, checkpoint=True)
train(gan, "digits", "half", kimg=0.016, precision="bf16", micro_batch=2, **options)

torch.set_default_dtype(torch.float64)
tensors, trainer = three_steps(sharded=True)
assert sum(value.numel() for value in trainer.optimizers["generator"].gradients().values()) == 0
shards = sum(local(shard).numel() for shard in trainer.sharding.shards)
assert shards < 0.7 * sum(shard.numel() for shard in trainer.sharding.shards)
if trainer.distributed.is_main:
    save_file({name: value.contiguous() for name, value in tensors.items()}, "sharded.safetensors")
destroy_process_group()
"""


def three_steps(*, sharded: bool) -> tuple[dict[str, torch.Tensor], Trainer]:
    """The state after three steps of eight images, in float64."""
    options = {"clip_norm": 0.1, "weight_decay": 0.1}
    decoder = {"kind": "conv-autoencoder", "latent_channels": 3, "downsampling": 2, "dim": 4}  # its weights stay whole
    generator = tiny.GENERATOR | {"decoder": decoder}
    spec = document(generator=generator, regularizers=REGULARIZERS, loss="relativistic", generator_optimizer=options)
    trainer = new_trainer(spec, sharded=sharded)
    torch.manual_seed(1)
    real, size = real_images(8), trainer.batch_size
    offset = trainer.distributed.shard.rank * size
    for _ in range(3):
        gradients(trainer, real[offset : offset + size], total=8, offset=offset)
    return {name: whole(value.detach()) for name, value in checkpoint_tensors(trainer).items()}, trainer


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_sharded_networks_train_as_in_one_process(tmp_path):
    torch.set_default_dtype(torch.float32)
    run(tiny.gan(regularizers=REGULARIZERS), tmp_path / "run", steps=2)
    finish(launch(tmp_path, SHARDED))
    torch.set_default_dtype(torch.float64)
    expected, _ = three_steps(sharded=False)
    assert largest_difference(load_file(tmp_path / "sharded.safetensors"), expected) < 1e-5
    torch.set_default_dtype(torch.float32)
    run(None, tmp_path / "run", steps=6, resume=True, data=None)  # on one process
    assert checkpoint_metadata(tmp_path / "run")["images"] == 48


def refusal(processes=2, precision="fp32", non_finite="skip", settings=SETTINGS, **changes):
    """The message for a document."""
    context: Any = SimpleNamespace(shard=SimpleNamespace(world=processes), precision=precision)
    with pytest.raises(RunError) as error:
        check_shardable(parse(tiny.gan(**changes)), context, settings, non_finite)
    return str(error.value)


def test_a_phase_with_second_derivatives_is_refused_with_the_regularizer_to_take():
    assert refusal(regularizers=["lecam", {"kind": "r1", "every": 2}]) == (
        "--strategy fsdp: regularizers.1: r1 needs second derivatives, which sharded networks do not have; "
        "take approximate-r1"
    )
    assert refusal(regularizers=["gradient-penalty"]).endswith("take approximate-r1")
    assert refusal(regularizers=["r2"]).endswith("take approximate-r2")
    assert refusal(regularizers=["path-length"]).endswith("remove it")


def test_what_sharding_does_not_support_is_refused():
    plain: dict[str, Any] = {"regularizers": []}
    assert "there is 1; start several with torchrun" in refusal(processes=1, **plain)
    assert "take --precision bf16" in refusal(precision="fp16", **plain)
    assert "take --non-finite skip" in refusal(non_finite="retry-in-float32", **plain)
    assert "--init-generator; omit it" in refusal(settings=SETTINGS | {"init_generator": "run"}, **plain)
    assert "ema.sigma_rel" in refusal(ema={"sigma_rel": [0.1]}, **plain)
    context: Any = SimpleNamespace(shard=SimpleNamespace(world=2), precision="bf16")
    check_shardable(parse(tiny.gan(regularizers=REGULARIZERS)), context, copy.copy(SETTINGS), "skip")


def test_a_refused_training_writes_nothing(tmp_path):
    with pytest.raises(RunError, match="start several with torchrun"):
        train(tiny.gan(), "digits", tmp_path / "run", strategy="fsdp", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()

"""Precision of trainings: what runs in 16 bits or TF32, and what stays in float32."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from ganblocks.errors import RunError
from ganblocks.precision import apply_precision, autocast, default_precision, refuse_fp16_on_cpu, tf32
from ganblocks.training.distributed import DistributedContext
from registry.kernels import wants_second_order
from tests import tiny
from tests.training.conftest import LAZY, checkpoint_metadata, new_trainer, real_images, run


def test_bfloat16_trains(tmp_path):
    result = run(LAZY, tmp_path / "run", steps=2, precision="bf16")
    assert all(np.isfinite(value) for value in result.log[-1]["losses"].values())
    assert all(value.dtype == torch.float32 for value in result.generator.parameters())


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_networks_run_in_the_precision_and_penalties_of_second_order_in_float32(precision, dtype):
    trainer = new_trainer(tiny.gan(regularizers=[{"kind": "r1", "every": 1}]), precision=precision)
    outputs = {"generator": [], "discriminator": []}
    for name, network in (("generator", trainer.generator), ("discriminator", trainer.discriminator)):
        for layer in (each for each in network.modules() if isinstance(each, nn.Linear)):
            layer.register_forward_hook(lambda _module, _args, y, name=name: outputs[name].append(y.dtype))
    judged = []
    trainer.discriminator.register_forward_pre_hook(lambda _, args: judged.append(args[0].dtype))
    trainer.train_step(real_images(), None)
    assert dtype in outputs["generator"]
    expected = {dtype, torch.float32} if precision == "bf16" else {torch.float32}  # R1 runs in float32
    assert set(outputs["discriminator"]) == expected
    assert all(value.dtype == torch.float32 for value in trainer.gan.parameters())
    moments = [each for optimizer in trainer.optimizers.values() for each in optimizer.moments().values()]
    assert all(each.dtype == torch.float32 for each in moments)


def test_precision_changes_the_numbers(tmp_path):
    exact, mixed = (run(LAZY, tmp_path / name, steps=2, precision=name).generator for name in ("fp32", "bf16"))
    pairs = list(zip(exact.parameters(), mixed.parameters(), strict=True))
    assert any(not torch.equal(*pair) for pair in pairs)
    for pair in pairs:
        torch.testing.assert_close(*pair, rtol=0.1, atol=0.05)


def test_float16_is_refused_on_a_cpu():
    with pytest.raises(RunError, match="fp16 needs a GPU; choose precision bf16 or fp32 on a CPU"):
        refuse_fp16_on_cpu("fp16", on_cpu=True)
    with pytest.raises(RunError, match="fp16 needs a GPU"):
        autocast("fp16", torch.device("cpu"))
    with autocast("fp32", torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")
    with autocast("bf16", torch.device("cpu")):
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16


def float32_settings():
    newer = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    return (
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.get_float32_matmul_precision(),
        *(each.fp32_precision for each in newer),
    )


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize(
    ("precision", "tf32_is_on"), [("fp32", False), ("tf32", True), ("bf16", False), ("fp16", False)]
)
def test_a_precision_decides_about_tf32_on_cuda_and_restores_it(precision, tf32_is_on):
    before = float32_settings()
    with apply_precision(precision, torch.device("cuda")):
        number = "tf32" if tf32_is_on else "ieee"
        assert float32_settings() == (tf32_is_on, tf32_is_on, "high" if tf32_is_on else "highest", *[number] * 3)
        with pytest.raises(ZeroDivisionError), apply_precision("tf32", torch.device("cuda")):
            _ = 1 / 0
        assert torch.backends.cudnn.allow_tf32 == tf32_is_on
    assert float32_settings() == before


def test_tf32_that_was_set_by_the_newer_switches_alone_is_restored():
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    with tf32(False, torch.device("cuda")):
        matmul.fp32_precision = conv.fp32_precision = "tf32"  # now the older switches cannot be read
        with tf32(False, torch.device("cuda")):
            assert (matmul.fp32_precision, conv.fp32_precision, matmul.allow_tf32) == ("ieee", "ieee", False)
        assert (matmul.fp32_precision, conv.fp32_precision) == ("tf32", "tf32")


def test_a_precision_leaves_a_cpu_as_it_is():
    before = float32_settings()
    with apply_precision("tf32", torch.device("cpu")):
        assert float32_settings() == before
        assert not torch.is_autocast_enabled("cpu")


def test_the_default_is_tf32_on_cuda_and_fp32_elsewhere():
    assert [default_precision(device) for device in ("cuda", "cpu", "mps")] == ["tf32", "fp32", "fp32"]
    assert new_trainer().distributed.precision == "fp32"


@pytest.mark.parametrize("every", [1, 2])
def test_forward_and_backward_passes_of_second_order_run_without_tf32(every, monkeypatch):
    monkeypatch.setattr(
        DistributedContext,
        "tf32",
        lambda self, enabled=True: tf32(enabled and self.precision == "tf32", torch.device("cuda")),
    )
    regularizers = [{"kind": "r1", "every": every}, {"kind": "path-length", "every": every}]
    trainer = new_trainer(tiny.gan(regularizers=regularizers), precision="tf32")
    forward, backward = {True: set(), False: set()}, set()
    for optimizer in trainer.optimizers.values():
        optimizer.set_trainable(True)  # to register hooks
        for layer in (each for each in optimizer.network.modules() if isinstance(each, nn.Linear)):
            layer.register_forward_hook(lambda *_: forward[wants_second_order()].add(matmul.allow_tf32))
            layer.weight.register_hook(lambda _: backward.add((wants_second_order(), matmul.allow_tf32)))
        optimizer.set_trainable(False)
    matmul, before = torch.backends.cuda.matmul, float32_settings()
    trainer.train_step(real_images(), None)
    assert forward == {True: {False}, False: {True}}
    lazy = {(True, False), (False, True)}  # R1 in each step shares a backward pass with the loss
    assert backward == (lazy if every == 2 else {(False, False), (True, False)} & backward)
    assert float32_settings() == before


def test_the_precision_of_a_run_is_recorded(tmp_path):
    run(LAZY, tmp_path / "run", steps=1, precision="tf32")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["precision"] == "tf32"
    with pytest.raises(RunError, match="--precision: the run was started with tf32, not fp32; omit --precision"):
        run(None, tmp_path / "run", steps=2, resume=True, precision="fp32")
    assert checkpoint_metadata(run(None, tmp_path / "run", steps=2, resume=True).folder)["precision"] == "tf32"

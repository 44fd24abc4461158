"""Mixed precision in training: what runs in 16 bits, and what stays in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ganblocks.errors import RunError
from ganblocks.precision import autocast, refuse_fp16_on_cpu
from tests import tiny
from tests.training.conftest import LAZY, new_trainer, real_images, run


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="fp16 needs a GPU, and there is none")
def test_float16_trains_and_resumes(tmp_path):
    run(LAZY, tmp_path / "run", steps=4, precision="fp16", device="cuda")
    result = run(None, tmp_path / "run", steps=8, device="cuda", resume=True)
    assert all(np.isfinite(value) for value in result.log[-1]["losses"].values())

"""The Triton kernel of bias_act: by the interpreter, cross-compiled for GPUs, and on a GPU where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from blocks.ops.bias_act.triton import Triton
from tests.blocks.ops.bias_act_calls import TOLERANCE, compare_triton
from tests.blocks.ops.cross_compilation import resource_usage

pytest.importorskip("triton")
ROOT = Path(__file__).parents[3]
FLOATS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
MOST_REGISTERS = 64  # per thread: half of a multiprocessor's threads then run at once


@pytest.mark.slow
def test_values_and_two_derivatives_agree_with_float64_in_the_interpreter():
    command = [sys.executable, "-m", "tests.blocks.ops.bias_act_calls"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.count("48 calls: ok") == len(TOLERANCE)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_values_and_two_derivatives_agree_with_float64_on_a_gpu(dtype):
    assert compare_triton(dtype, "cuda") == 48


@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("channels_last", [True, False], ids=["channels-last", "contiguous"])
def test_it_compiles_for_gpus_without_spilling_registers(capability, dtype, channels_last, tmp_path):
    from blocks.ops.bias_act.triton_kernel import TILE, pointwise

    if capability != 90 and dtype != torch.float16:
        pytest.skip("one dtype shows that older and newer generations are served")
    kinds = dict.fromkeys(("y", "x", "first", "second"), f"*{FLOATS[dtype]}")
    kinds |= dict.fromkeys(("bias", "scale", "noise"), "*fp32")
    kinds |= dict.fromkeys(("rows", "columns", "channels", "pixels", "noise_size"), "i32")
    kinds |= dict.fromkeys(("slope", "gain", "clamp"), "fp32")
    # the curvature of swish is the longest program
    constants = {"ACTIVATION": 3, "ORDER": 2, "CHANNELS_LAST": channels_last, "BIAS": 2, "SCALE": 2}
    constants |= {"HAS_NOISE": True, "HAS_CLAMP": True, "ROWS": TILE // 128, "COLUMNS": 128}
    usage = resource_usage(pointwise, kinds, constants, capability, tmp_path, ("columns",))
    assert usage["STACK"] == usage["SHARED"] == 0
    assert usage["REG"] <= MOST_REGISTERS


def test_it_refuses_what_it_cannot_compute():
    x = torch.zeros(2, 3, 4, 5)
    kernel = Triton()
    assert any("CUDA devices only, not on cpu" in each for each in kernel.unsupported(x, activation="lrelu"))
    reasons = kernel.unsupported(x.double().transpose(2, 3), activation="lrelu")
    assert any("float32, float16 or bfloat16" in each for each in reasons)
    assert any("contiguous or channels-last" in each for each in reasons)
    assert any("nothing to compute" in each for each in kernel.unsupported(x))

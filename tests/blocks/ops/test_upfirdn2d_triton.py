"""The Triton kernel of upfirdn2d: by the interpreter, cross-compiled for GPUs, and on a GPU where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from blocks.ops.upfirdn2d.triton import MOST_TAPS, Triton
from tests.blocks.ops.cross_compilation import resource_usage
from tests.blocks.ops.upfirdn2d_calls import TOLERANCE, compare_triton

pytest.importorskip("triton")
ROOT = Path(__file__).parents[3]
MOST_REGISTERS = 64  # per thread: half of a multiprocessor's threads then run at once


@pytest.mark.slow
def test_values_and_two_derivatives_agree_with_float64_in_the_interpreter():
    command = [sys.executable, "-m", "tests.blocks.ops.upfirdn2d_calls"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.count("48 calls: ok") == len(TOLERANCE)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_values_and_two_derivatives_agree_with_float64_on_a_gpu(dtype):
    assert compare_triton(dtype, "cuda") == 48


@pytest.mark.parametrize(("capability", "floats"), [(80, "fp16"), (90, "fp16"), (90, "fp32"), (100, "bf16")])
@pytest.mark.parametrize("channels_last", [True, False], ids=["channels-last", "contiguous"])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2)])
def test_it_compiles_for_gpus_without_spilling_registers(capability, floats, channels_last, up, down, tmp_path):
    from blocks.ops.upfirdn2d.triton_kernel import SIZES, resample, tile_size

    kinds = {"y": f"*{floats}", "x": f"*{floats}", "taps": "*fp32", "gain": "fp32"}
    kinds |= dict.fromkeys((*SIZES, "columns"), "i32")
    constants = {"UP_X": up, "UP_Y": up, "DOWN_X": down, "DOWN_Y": down, "TAPS_X": 4, "TAPS_Y": 4, "FLIP": False}
    constants |= {"CHANNELS_LAST": channels_last, "COLUMNS": 128}
    constants["ROWS"] = tile_size(4 if floats == "fp32" else 2, channels_last) // 128
    usage = resource_usage(resample, kinds, constants, capability, tmp_path, ("columns",))
    assert usage["STACK"] == usage["SHARED"] == 0
    assert usage["REG"] <= MOST_REGISTERS


def test_it_refuses_what_it_cannot_compute():
    x, kernel = torch.zeros(2, 3, 4, 5), Triton()
    assert any("CUDA devices only, not on cpu" in each for each in kernel.unsupported(x, torch.ones(4, 4)))
    reasons = kernel.unsupported(x.double(), torch.ones(MOST_TAPS + 1, 1, requires_grad=True))
    assert any("float32, float16 or bfloat16" in each for each in reasons)
    assert any(f"at most {MOST_TAPS} taps" in each for each in reasons)
    assert any("no gradient of the filter" in each for each in reasons)
    assert any("two dimensions" in each for each in kernel.unsupported(x, torch.ones(4)))

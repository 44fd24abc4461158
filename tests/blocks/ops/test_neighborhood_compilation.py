"""The Triton kernels of neighborhood attention cross-compiled for GPUs: registers, spilled bytes and shared memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.blocks.ops.cross_compilation import resource_usage
from tests.budget import only_in_full

pytest.importorskip("triton")
FLOATS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
KERNELS = ("forward", "queries", "keys")
SLOW = pytest.mark.slow
INPUTS = ("q", "k", "v", "g", "y", "dq", "dk", "dv")
TENSORS = (*INPUTS, "table", "sums", "delta", "partial")
REGISTERS = 65536  # of a multiprocessor
SHARED_MEMORY = 101_376  # bytes per program on the GPUs that have the least, of compute capability 8.6 and 8.9
PROGRAMS = 2  # that run on a multiprocessor at once, at least
MOST_SPILLED = {torch.float32: 704, torch.bfloat16: 64}  # bytes per thread; more in float32 was faster than more warps
MOST_SPILLED_OF_LARGE_HEADS = 512


def resources(kernel: str, dtype: torch.dtype, head_dim: int, kernel_size: int, capability: int, folder: Path) -> Any:
    """The resource usage of a kernel with a bias, and its threads per program."""
    from blocks.ops.neighborhood_attention import triton_launch

    plan = triton_launch.plan(kernel_size, head_dim, dtype, True)
    align = triton_launch.WIDEST_ACCESS // dtype.itemsize
    function, constants, chosen = triton_launch.specialized(
        kernel, kernel_size, head_dim, True, align, True, plan, True
    )
    kinds = {each.name: each.annotation_type or "i32" for each in function.params if each.name not in constants}
    pointers = dict.fromkeys(INPUTS, dtype) | {"table": triton_launch.table_dtype(dtype)}
    kinds |= {name: "*" + FLOATS[pointers.get(name, torch.float32)] for name in TENSORS if name in kinds}
    kinds["scale"] = "fp32"
    options = {"warps": chosen.warps, "stages": chosen.stages}
    usage = resource_usage(function, kinds, constants, capability, folder, **options)
    return usage | {"THREADS": 32 * chosen.warps}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("capability", [pytest.param(80, marks=SLOW), 90, pytest.param(100, marks=SLOW)])
def test_heads_of_32_channels_need_few_registers_and_little_shared_memory(kernel, dtype, capability, tmp_path):
    usage = resources(kernel, dtype, 32, 7, capability, tmp_path)
    assert usage["STACK"] <= MOST_SPILLED[dtype]
    assert usage["REG"] * usage["THREADS"] * PROGRAMS <= REGISTERS
    assert usage["SHARED"] <= SHARED_MEMORY


@pytest.mark.slow
@only_in_full("minutes")
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("head_dim", "kernel_size"), [(4, 3), (64, 7), (64, 13), (128, 7), (128, 13)])
def test_all_heads_and_windows_fit_on_every_gpu(kernel, dtype, head_dim, kernel_size, tmp_path):
    usage = resources(kernel, dtype, head_dim, kernel_size, 80, tmp_path)
    assert usage["SHARED"] <= SHARED_MEMORY
    assert usage["STACK"] <= MOST_SPILLED_OF_LARGE_HEADS


def test_nothing_is_compiled_for_a_map_size_a_stride_or_a_dilation():
    from blocks.ops.neighborhood_attention.triton_launch import FUNCTIONS

    for function in FUNCTIONS.values():
        for parameter in function.params:
            tensor_or_float = parameter.name in TENSORS or parameter.name == "scale"
            assert parameter.is_constexpr or tensor_or_float or parameter.do_not_specialize

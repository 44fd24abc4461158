"""The Triton kernels of neighborhood attention cross-compiled for GPUs: registers, spilled bytes and shared memory."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton")
FLOATS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
KERNELS = ("forward", "queries", "keys", "bias")
SLOW = pytest.mark.slow
INPUTS = ("q", "k", "v", "g", "y", "dq", "dk", "dv")
TENSORS = (*INPUTS, "table", "sums", "delta", "partial")
REGISTERS = 65536  # of a multiprocessor
SHARED_MEMORY = 101_376  # bytes per program on the GPUs that have the least, of compute capability 8.6 and 8.9
PROGRAMS = 2  # that run on a multiprocessor at once, at least
MOST_SPILLED = {torch.float32: 704, torch.bfloat16: 64}  # bytes per thread; more in float32 was faster than more warps
MOST_SPILLED_OF_LARGE_HEADS = 512


def resources(
    kernel: str, dtype: torch.dtype, bias: bool, head_dim: int, kernel_size: int, capability: int, folder: Path
) -> dict[str, int]:
    """Registers per thread, bytes on its stack, bytes of shared memory per program, and threads per program."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from blocks.ops.neighborhood_attention import triton_launch

    plan = triton_launch.plan(kernel_size, head_dim, dtype, bias)
    align = 16 // dtype.itemsize
    function, constants, chosen = triton_launch.specialized(kernel, kernel_size, head_dim, bias, align, True, plan)
    table = FLOATS[triton_launch.table_dtype(dtype)]
    signature: dict[str, str] = {}
    attributes: dict[tuple[int], Any] = {}
    for index, parameter in enumerate(function.params):
        if parameter.name in constants:
            kind = "constexpr"
        elif parameter.name in TENSORS:
            kind = "*" + (FLOATS[dtype] if parameter.name in INPUTS else table if parameter.name == "table" else "fp32")
        else:
            kind = parameter.annotation_type or ("fp32" if parameter.name == "scale" else "i32")
        signature[parameter.name] = kind
        if kind.startswith("*"):
            attributes[(index,)] = [["tt.divisibility", 16]]
    options = {"num_warps": chosen.warps, "num_stages": chosen.stages, "enable_fp_fusion": True}
    source = ASTSource(function, signature, constants, attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(compiled.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    report = subprocess.run([tool, "--dump-resource-usage", cubin], capture_output=True, text=True, check=True).stdout
    usage = {name: int(value) for name, value in re.findall(r"(REG|STACK):(\d+)", report)}
    return usage | {"SHARED": compiled.metadata.shared, "THREADS": 32 * chosen.warps}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("capability", [pytest.param(80, marks=SLOW), 90, pytest.param(100, marks=SLOW)])
def test_heads_of_32_channels_need_few_registers_and_little_shared_memory(kernel, dtype, capability, tmp_path):
    usage = resources(kernel, dtype, True, 32, 7, capability, tmp_path)
    assert usage["STACK"] <= MOST_SPILLED[dtype]
    assert usage["REG"] * usage["THREADS"] * PROGRAMS <= REGISTERS
    assert usage["SHARED"] <= SHARED_MEMORY


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("head_dim", "kernel_size"), [(4, 3), (64, 7), (64, 13), (128, 7), (128, 13)])
def test_all_heads_and_windows_fit_on_every_gpu(kernel, dtype, head_dim, kernel_size, tmp_path):
    usage = resources(kernel, dtype, True, head_dim, kernel_size, 80, tmp_path)
    assert usage["SHARED"] <= SHARED_MEMORY
    assert usage["STACK"] <= MOST_SPILLED_OF_LARGE_HEADS


def test_nothing_is_compiled_for_a_map_size_a_stride_or_a_dilation():
    from blocks.ops.neighborhood_attention.triton_launch import FUNCTIONS

    for function in FUNCTIONS.values():
        for parameter in function.params:
            tensor_or_float = parameter.name in TENSORS or parameter.name == "scale"
            assert parameter.is_constexpr or tensor_or_float or parameter.do_not_specialize

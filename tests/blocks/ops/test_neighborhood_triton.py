"""The Triton kernel of neighborhood attention against the reference in float64: on a GPU, or in Triton's interpreter.

Without a GPU these tests are skipped, and the first one runs them again in a process with `TRITON_INTERPRET=1`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from blocks.ops.neighborhood_attention import neighborhood_attention
from blocks.ops.neighborhood_attention.triton import Triton, triton_attention
from registry import KernelError, second_order
from tests.budget import only_in_full

KERNEL = Triton()
ROOT = Path(__file__).parents[3]
FOLDER = "tests/blocks/ops"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
MISSING = KERNEL.unavailable()
RUNS = pytest.mark.skipif(MISSING is not None, reason=f"{MISSING}")
LONG = [pytest.mark.slow, only_in_full("many minutes")]
STARTS = pytest.mark.skipif(MISSING is None, reason="the kernel runs in this process")
LARGEST_ERROR = {torch.float32: 4e-6, torch.float16: 4e-3, torch.bfloat16: 2e-2}  # relative to the largest value
pytestmark = pytest.mark.usefixtures("default_device")

LAYOUTS = {  # tensors [B,H,W,heads,d] with the strides that blocks pass, and others
    "parts of one tensor": lambda *shape: _normal(*shape[:3], 3, *shape[3:]).unbind(3),
    "some of the heads": lambda *shape: _normal(*shape[:3], 3, shape[3] + 1, shape[4])[:, :, :, :, 1:].unbind(3),
    "channels first": lambda *shape: _normal(3, shape[0], *shape[3:], *shape[1:3]).permute(0, 1, 4, 5, 2, 3).unbind(0),
}
CASES = [  # batch, height, width, heads, head size; window, dilation, bias, layout
    ((1, 17, 9, 1, 4), 7, 1, True, "parts of one tensor"),
    ((1, 6, 11, 2, 5), 3, 2, True, "channels first"),
    ((2, 9, 8, 1, 24), 5, 1, False, "some of the heads"),
]
MORE_CASES = [
    ((1, 13, 14, 1, 16), 13, 1, True, "parts of one tensor"),
    ((1, 12, 13, 2, 32), 7, 1, True, "some of the heads"),  # the last tile begins earlier
    ((1, 30, 15, 1, 8), 5, 3, True, "parts of one tensor"),
    ((1, 21, 22, 1, 64), 9, 1, True, "parts of one tensor"),
    ((1, 25, 13, 1, 4), 11, 1, True, "channels first"),
    ((1, 27, 31, 1, 16), 13, 2, True, "parts of one tensor"),
    ((1, 9, 11, 2, 128), 7, 1, True, "parts of one tensor"),
    ((2, 9, 9, 2, 1), 1, 3, True, "parts of one tensor"),
    ((1, 40, 19, 1, 12), 3, 4, False, "some of the heads"),
]


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator(torch.get_default_device()).manual_seed(0))


def leaves(shape: tuple[int, ...], kernel_size: int, bias: bool, layout: str, dtype: torch.dtype) -> list[Tensor]:
    side = 2 * kernel_size - 1
    tensors = [*LAYOUTS[layout](*shape), *([_normal(shape[3], side, side)] if bias else [])]
    return [x.to(dtype).requires_grad_() for x in tensors]


def run(kernel, tensors: list[Tensor], **window) -> Tensor:
    return kernel.run(*tensors[:3], bias=tensors[3] if len(tensors) > 3 else None, **window)


def values(kernel, tensors: list[Tensor], **window) -> list[Tensor]:
    """The result, and gradients of its product with a fixed tensor."""
    y = run(kernel, tensors, **window)
    return [y, *torch.autograd.grad(y, tensors, _normal(*y.shape).roll(1).to(y.dtype))]


@STARTS
@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (f"{FOLDER}/test_neighborhood_triton.py", "not slow and not gpu"),
        pytest.param(
            f"{FOLDER}/test_neighborhood_triton.py {FOLDER}/test_neighborhood_windows.py", "not gpu", marks=LONG
        ),
        pytest.param(f"{FOLDER}/test_neighborhood_attention.py", "not gpu", marks=LONG),
        pytest.param(f"{FOLDER}/test_kernels.py", "not slow", marks=LONG),
    ],
    ids=["this", "windows", "attention", "kernels"],
)
def test_the_interpreter_passes(files, chosen):
    pytest.importorskip("triton")
    names = "triton and not interpreter and not bias_act"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        *files.split(),
        "-m",
        chosen,
        "-k",
        names,
        "-p",
        "no:cacheprovider",
    ]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout[-3000:]
    assert " passed" in result.stdout


@RUNS
@pytest.mark.parametrize(
    ("shape", "kernel_size", "dilation", "bias", "layout"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.slow if INTERPRETED else ()) for case in MORE_CASES)],
)
@pytest.mark.parametrize("dtype", LARGEST_ERROR, ids=str)
def test_values_and_gradients_agree_with_float64(shape, kernel_size, dilation, bias, layout, dtype):
    if INTERPRETED and dtype != (torch.float16 if layout == "some of the heads" else torch.float32):
        return  # the interpreter computes slowly, and not in bfloat16
    window = dict(kernel_size=kernel_size, dilation=dilation, scale=0.4)
    tensors = leaves(shape, kernel_size, bias, layout, dtype)
    assert not KERNEL.unsupported(*tensors[:3], kernel_size=kernel_size)
    exact = [x.detach().double().requires_grad_() for x in tensors]
    expected = values(neighborhood_attention.reference, exact, **window)
    for value, wanted in zip(values(KERNEL, tensors, **window), expected, strict=True):
        assert value.dtype == dtype
        assert (value - wanted).abs().max() < LARGEST_ERROR[dtype] * wanted.abs().max().clamp(min=1)


@RUNS
def test_results_and_gradients_have_the_same_bits_each_time():
    tensors = leaves((1, 9, 8, 2, 8), 3, True, "parts of one tensor", torch.float32)
    first, second = (values(KERNEL, tensors, kernel_size=3) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


@RUNS
def test_programs_that_sum_the_gradient_of_the_bias_over_many_tiles_agree_with_float64(monkeypatch):
    from blocks.ops.neighborhood_attention import triton_launch

    monkeypatch.setattr(triton_launch, "PROGRAMS", 3)  # of 8 tiles in each of 4 dilation groups
    tensors = leaves((1, 29, 13, 1, 4), 3, True, "parts of one tensor", torch.float32)
    exact = [x.detach().double().requires_grad_() for x in tensors]
    expected = values(neighborhood_attention.reference, exact, kernel_size=3, dilation=2)[-1]
    gradient = values(KERNEL, tensors, kernel_size=3, dilation=2)[-1]
    assert (gradient - expected).abs().max() < LARGEST_ERROR[torch.float32] * expected.abs().max()


@RUNS
@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float64, marks=pytest.mark.slow)], ids=str)
def test_other_default_dtypes_and_devices_change_nothing(dtype):
    tensors = leaves((1, 8, 8, 1, 4), 3, True, "parts of one tensor", torch.float32)

    def call() -> list[Tensor]:
        y = run(KERNEL, tensors, kernel_size=3)
        return [y, *torch.autograd.grad(y, tensors, tensors[0].detach())]

    expected, default = call(), torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            actual = call()
    finally:
        torch.set_default_dtype(default)
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)


@RUNS
def test_a_bias_of_float32_serves_queries_of_float16():
    *tensors, bias = leaves((1, 8, 8, 1, 8), 3, True, "parts of one tensor", torch.float16)
    bias = bias.detach().float().requires_grad_()
    gradient = values(KERNEL, [*tensors, bias], kernel_size=3)[-1]
    exact = [x.detach().double().requires_grad_() for x in (*tensors, bias)]
    expected = values(neighborhood_attention.reference, exact, kernel_size=3)[-1]
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-2, atol=1e-2)


@RUNS
def test_a_gradient_with_any_strides_is_read():
    tensors = leaves((1, 8, 8, 1, 8), 3, False, "parts of one tensor", torch.float32)
    y = run(KERNEL, tensors, kernel_size=3)
    dense = torch.ones_like(y)
    for gradient in (dense[:1, :1, :1, :1, :1].expand_as(y), dense.transpose(1, 4).contiguous().transpose(1, 4)):
        actual, expected = (torch.autograd.grad(y, tensors, each, retain_graph=True) for each in (gradient, dense))
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@RUNS
def test_a_second_derivative_raises_and_says_what_to_do():
    tensors = leaves((1, 8, 8, 1, 4), 3, True, "parts of one tensor", torch.float32)
    gradients = torch.autograd.grad(run(KERNEL, tensors, kernel_size=3).square().sum(), tensors, create_graph=True)
    with pytest.raises(RuntimeError, match=r"'triton' has no second derivative; .*registry.second_order\(\)"):
        torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), tensors)
    with second_order(), pytest.raises(KernelError, match="triton: has no second derivative"):
        neighborhood_attention(*tensors[:3], kernel_size=3, kernel="triton")


@RUNS
def test_a_plain_call_and_its_op_have_the_same_gradients():
    tensors = leaves((1, 8, 8, 1, 4), 3, True, "parts of one tensor", torch.float32)
    results = (run(KERNEL, tensors, kernel_size=3, scale=0.5), triton_attention(*tensors, 3, 1, 0.5)[0])
    direct, dispatched = ([y, *torch.autograd.grad(y.square().sum(), tensors)] for y in results)
    for one, other in zip(direct, dispatched, strict=True):
        assert torch.equal(one, other)


@RUNS
def test_its_op_passes_the_checks_of_torch():
    tensors = leaves((1, 8, 8, 1, 4), 3, True, "channels first", torch.float32)
    torch.library.opcheck(triton_attention, (*tensors, 3, 1, 0.5))


@pytest.mark.gpu
def test_a_cuda_graph_repeats_results_and_gradients_bit_for_bit():
    tensors = [
        x.cuda().detach().requires_grad_()
        for x in leaves((1, 64, 48, 4, 32), 7, True, "some of the heads", torch.bfloat16)
    ]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        values(KERNEL, tensors, kernel_size=7)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    gradient = torch.randn_like(tensors[0])
    with torch.cuda.graph(graph):
        y = run(KERNEL, tensors, kernel_size=7)
        captured = [y, *torch.autograd.grad(y, tensors, gradient)]
    graph.replay()
    y = run(KERNEL, tensors, kernel_size=7)
    for one, other in zip(captured, [y, *torch.autograd.grad(y, tensors, gradient)], strict=True):
        assert torch.equal(one, other)


def test_it_lists_its_reasons():
    q = torch.zeros(1, 15, 15, 2, 130, dtype=torch.float64, device="meta")
    reasons = "; ".join(Triton().unsupported(q, q, q, kernel_size=15))
    for reason in ("not on meta", "not torch.float64", "from 1 to 128, not 130", "up to 13 x 13 pixels, not 15"):
        assert reason in reasons

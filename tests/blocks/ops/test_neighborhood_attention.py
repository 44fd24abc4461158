"""Every kernel of neighborhood attention against the reference, also on maps and windows drawn by hypothesis."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blocks.ops.neighborhood_attention import compiled, neighborhood_attention
from blocks.ops.neighborhood_attention.reference import window_logits
from registry import Kernel, KernelError, recording, second_order
from tests.blocks.ops.examples import kernels_on_device
from tests.tensors import nondeterminism

pytestmark = pytest.mark.usefixtures("default_device")
REFERENCE = neighborhood_attention.reference
AVAILABLE = kernels_on_device(neighborhood_attention)
KERNELS = [kernel for kernel in AVAILABLE if kernel is not REFERENCE]
FUSED = [kernel for kernel in KERNELS if not kernel.second_order]
TRACED = [kernel for kernel in KERNELS if kernel.name != "tiled-math"]
FAST = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
EACH = pytest.mark.parametrize("kernel", AVAILABLE, ids=lambda kernel: kernel.name)
WINDOWS = pytest.mark.parametrize(("kernel_size", "dilation"), [(3, 1), (5, 2), (3, 3), (7, 1)])
STRICT = {
    torch.float64: dict(rtol=1e-10, atol=1e-12),
    torch.float32: dict(rtol=1e-4, atol=1e-5),
    torch.bfloat16: dict(rtol=2e-2, atol=2e-2),
}
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
NUM_CALLS = 25 if torch.get_default_device().type == "cpu" and not INTERPRETED else 6  # GPUs compile for each window
ROUNDS_LOGITS = ("masked", "tiled-math")  # to the dtype of q and k; the others keep them in float32
TOLERANCE = {
    torch.float64: dict(rtol=1e-9, atol=1e-10),
    torch.float32: dict(rtol=1e-3, atol=1e-4),
    torch.bfloat16: dict(rtol=5e-2, atol=1e-1),
}
LAYOUTS = {  # how the memory of a map [B, H, W, heads, d] lies
    "whole": lambda x: x,
    "channels-first": lambda x: x.permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2),
    "mirrored": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "part": lambda x: torch.stack([x, x, x], 3)[:, :, :, 1],
}


@st.composite
def calls(draw: st.DrawFn) -> dict[str, object]:
    kernel_size, dilation = draw(st.sampled_from([1, 3, 5, 7])), draw(st.integers(1, 4))
    extra = st.one_of(st.just(0), st.integers(0, 20))  # 0: each dilation group is one window
    height, width = (kernel_size * dilation + draw(extra) for _ in range(2))
    return dict(
        shape=(draw(st.integers(1, 2)), height, width, draw(st.integers(1, 3)), draw(st.integers(1, 5))),
        window=dict(kernel_size=kernel_size, dilation=dilation, scale=draw(st.sampled_from([None, 0.7]))),
        with_bias=draw(st.booleans()),
        dtype=draw(st.sampled_from(list(TOLERANCE))),
        layout=draw(st.sampled_from(list(LAYOUTS))),
        size=draw(st.sampled_from([0.1, 1.0, 20.0])),
        seed=draw(st.integers(0, 99)),
    )


def leaves(shape, window, with_bias, dtype=torch.float64, layout="whole", size=1.0, seed=0) -> list[Tensor]:
    generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
    side = 2 * window["kernel_size"] - 1
    tensors = [LAYOUTS[layout](torch.randn(shape, generator=generator, dtype=torch.float64)) for _ in range(3)]
    tensors[0] = tensors[0] * size
    if with_bias:
        tensors.append(torch.randn(shape[3], side, side, generator=generator, dtype=torch.float64))
    return [x.to(dtype).requires_grad_() for x in tensors]


def supported(kernel: Kernel, dtype: torch.dtype) -> torch.dtype:
    """`dtype`, or float32 for kernels that do not compute in it."""
    tensors = leaves((1, 4, 4, 1, 16), dict(kernel_size=3), False, dtype)
    return torch.float32 if kernel.unsupported(*tensors, kernel_size=3) else dtype


def run(kernel: Kernel, tensors: list[Tensor], window: dict[str, object]) -> Tensor:
    return kernel.run(*tensors[:3], bias=tensors[3] if len(tensors) > 3 else None, **window)


def draw(*shape: int, kernel_size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    q, k, v = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    bias = torch.randn(shape[3], 2 * kernel_size - 1, 2 * kernel_size - 1, generator=generator, dtype=torch.float64)
    return q, k, v, bias


@EACH
@pytest.mark.parametrize("dtype", STRICT, ids=str)
@pytest.mark.parametrize("with_bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize(("height", "width"), [(10, 14), (13, 11)])
@WINDOWS
def test_every_kernel_agrees_with_the_reference(kernel, dtype, with_bias, height, width, kernel_size, dilation):
    *qkv, bias = (x.to(dtype) for x in draw(2, height, width, 3, 4, kernel_size=kernel_size))
    call = dict(kernel_size=kernel_size, dilation=dilation, bias=bias if with_bias else None, scale=0.4)
    if reasons := kernel.unsupported(*qkv, **call):
        pytest.skip("; ".join(reasons))
    actual = kernel.run(*qkv, **call)
    assert actual.dtype == dtype
    expected = REFERENCE.run(*(x.double() for x in qkv), **{**call, "bias": bias.double() if with_bias else None})
    torch.testing.assert_close(actual.double(), expected, **STRICT[dtype])


@FAST
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("height", "width", "head_dim", "kernel_size", "dilation", "bias_dtype"),
    [(9, 20, 32, 7, 1, None), (14, 17, 64, 5, 2, torch.bfloat16), (7, 35, 32, 3, 1, torch.float32)],
)
def test_large_heads_in_bfloat16_agree_with_the_reference(
    kernel, layout, height, width, head_dim, kernel_size, dilation, bias_dtype
):
    window = dict(kernel_size=kernel_size, dilation=dilation)
    tensors = leaves((2, height, width, 2, head_dim), window, bias_dtype is not None, torch.bfloat16, layout)
    if bias_dtype is not None:
        tensors[3] = tensors[3].detach().to(bias_dtype).requires_grad_()
    bias = tensors[3] if len(tensors) > 3 else None
    if reasons := kernel.unsupported(*tensors[:3], bias=bias, **window):
        pytest.skip("; ".join(reasons))
    exact = [x.detach().double().requires_grad_() for x in tensors]
    actual, expected = run(kernel, tensors, window), run(REFERENCE, exact, window)
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual.double(), expected, **STRICT[torch.bfloat16])
    gradients = torch.autograd.grad(actual.float().square().sum(), tensors)
    for x, ours, theirs in zip(tensors, gradients, torch.autograd.grad(expected.square().sum(), exact), strict=True):
        assert ours.dtype == x.dtype
        largest = theirs.abs().max()
        torch.testing.assert_close(ours.double() / largest, theirs / largest, **STRICT[torch.bfloat16])


@pytest.mark.skipif("compiled" not in [kernel.name for kernel in AVAILABLE], reason="there is no C++ compiler")
@pytest.mark.parametrize("head_dim", [8, 32])
def test_without_the_instructions_bfloat16_is_converted_and_computed_in_float32(head_dim, monkeypatch):
    monkeypatch.setattr(compiled, "multiplies_bfloat16", lambda *_: False)
    q, k, v = torch.randn(3, 1, 9, 12, 2, head_dim, generator=torch.Generator().manual_seed(0)).bfloat16()
    expected = compiled.Compiled().run(q.float(), k.float(), v.float(), kernel_size=5).bfloat16()
    assert torch.equal(compiled.Compiled().run(q, k, v, kernel_size=5), expected)


@EACH
@WINDOWS
def test_every_kernel_has_the_gradients_of_the_reference(kernel, kernel_size, dilation):
    def gradients(kernel: Kernel) -> tuple[Tensor, ...]:
        leaves = [x.float().requires_grad_() for x in draw(2, 10, 14, 2, 4, kernel_size=kernel_size)]
        call = dict(kernel_size=kernel_size, dilation=dilation, bias=leaves[3])
        if reasons := kernel.unsupported(*leaves[:3], **call):
            pytest.skip("; ".join(reasons))
        return torch.autograd.grad(kernel.run(*leaves[:3], **call).square().sum(), leaves)

    for actual, expected in zip(gradients(kernel), gradients(REFERENCE), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@EACH
@pytest.mark.parametrize(("height", "width", "dilation"), [(3, 5, 1), (6, 7, 2)])
def test_second_order_kernels_pass_gradcheck_and_gradgradcheck(kernel, height, width, dilation):
    if not kernel.second_order:
        pytest.skip("has no second derivative")
    tensors = [x.requires_grad_() for x in draw(1, height, width, 2, 2, kernel_size=3)]
    window = dict(kernel_size=3, dilation=dilation)
    assert torch.autograd.gradcheck(
        lambda *x: run(kernel, list(x), window), tensors, fast_mode=True, nondet_tol=nondeterminism()
    )
    assert torch.autograd.gradgradcheck(
        lambda *x: run(kernel, list(x), window), tensors, fast_mode=True, nondet_tol=nondeterminism()
    )


@FAST
@settings(deadline=None, max_examples=NUM_CALLS, derandomize=True)
@given(call=calls())
def test_every_kernel_has_values_and_gradients_of_the_reference(kernel, call):
    window, dtype = call["window"], supported(kernel, call["dtype"])
    tensors = leaves(**{**call, "dtype": dtype})
    exact = [x.detach().double().requires_grad_() for x in tensors]
    actual, expected = run(kernel, tensors, window), run(REFERENCE, exact, window)
    assert actual.dtype == dtype
    tolerance = dict(TOLERANCE[dtype])
    if dtype == torch.bfloat16 and kernel.name in ROUNDS_LOGITS:
        largest = window_logits(*exact[:2], **window).abs().max()  # rounding moves a logit by 2^-8 of it
        tolerance["atol"] = max(tolerance["atol"], (2**-7 * largest * exact[2].abs().max()).item())
    torch.testing.assert_close(actual.double(), expected, **tolerance)
    if dtype == torch.bfloat16 and call["size"] > 1:
        return  # too few digits to compare gradients of such large logits
    weights = torch.randn(
        call["shape"], generator=torch.Generator(torch.get_default_device()).manual_seed(1), dtype=torch.float64
    )
    actual_gradients = torch.autograd.grad(actual, tensors, weights.to(dtype))
    for ours, theirs in zip(actual_gradients, torch.autograd.grad(expected, exact, weights), strict=True):
        largest = theirs.abs().max().clamp(min=1.0)
        torch.testing.assert_close(ours.double() / largest, theirs / largest, **TOLERANCE[dtype])


@pytest.mark.parametrize(
    "kernel", [kernel for kernel in KERNELS if kernel.second_order], ids=lambda kernel: kernel.name
)
@settings(deadline=None, max_examples=5, derandomize=True)
@given(call=calls().filter(lambda call: call["shape"][1] * call["shape"][2] < 120))
def test_second_order_kernels_have_second_derivatives(kernel, call):
    tensors = leaves(**{**call, "dtype": torch.float64, "size": 1.0})
    assert torch.autograd.gradgradcheck(
        lambda *x: run(kernel, list(x), call["window"]), tensors, fast_mode=True, nondet_tol=nondeterminism()
    )


@pytest.mark.parametrize("kernel", FUSED, ids=lambda kernel: kernel.name)
def test_a_fused_kernel_refuses_to_be_differentiated_twice(kernel):
    window = dict(kernel_size=3)
    tensors = leaves((1, 9, 9, 2, 4), window, True, torch.float32)
    gradients = torch.autograd.grad(run(kernel, tensors, window).square().sum(), tensors, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), tensors)


@pytest.mark.parametrize("kernel", FUSED, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("side", [8, 40])
def test_second_order_mode_refuses_fused_kernels(kernel, side):
    q = torch.zeros(1, side, side, 1, 4)
    with recording() as ran, second_order():
        neighborhood_attention(q, q, q, kernel_size=7)
    names = [candidate.name for candidate in neighborhood_attention.kernels() if candidate.second_order]
    assert ran[0][1] in names
    with second_order(), pytest.raises(KernelError, match=f"{kernel.name}: has no second derivative"):
        neighborhood_attention(q, q, q, kernel_size=7, kernel=kernel.name)


@pytest.mark.parametrize("kernel", TRACED, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("dynamic", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["static", "dynamic"])
def test_every_kernel_is_traced_as_one_graph(kernel, dynamic):
    torch._dynamo.reset()
    window = dict(kernel_size=3, dilation=2)
    compiled = torch.compile(
        lambda *x: run(kernel, list(x), window), fullgraph=True, dynamic=dynamic, backend="aot_eager"
    )
    for shape in [(1, 12, 14, 2, 4), (2, 17, 9, 2, 4)]:
        tensors = leaves(shape, window, True, supported(kernel, torch.float64))
        actual, expected = compiled(*tensors), run(kernel, tensors, window)
        torch.testing.assert_close(actual, expected)
        gradients = (torch.autograd.grad(y.square().sum(), tensors) for y in (actual, expected))
        for ours, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, theirs)


@FAST
def test_logits_too_large_for_exponentials_are_still_right(kernel):
    window = dict(kernel_size=7)
    tensors = [x.float() for x in leaves((1, 20, 20, 2, 4), window, False, size=1e4)]
    actual = run(kernel, tensors, window)
    assert actual.isfinite().all()
    torch.testing.assert_close(actual, run(REFERENCE, tensors, window), rtol=1e-3, atol=1e-3)


@FAST
def test_the_softmax_is_not_computed_in_mixed_precision(kernel):
    window = dict(kernel_size=5)
    dtype = supported(kernel, torch.bfloat16)
    tensors = [x.detach().to(dtype) for x in leaves((1, 16, 16, 2, 8), window, True, torch.bfloat16)]
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        actual = run(kernel, tensors, window)
    expected = run(REFERENCE, [x.double() for x in tensors], window)
    torch.testing.assert_close(actual.double(), expected, rtol=3e-2, atol=3e-2)

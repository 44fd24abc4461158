"""Fast neighborhood attention against the reference, on whatever maps hypothesis thinks of."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from blocks.ops.neighborhood_attention import neighborhood_attention
from blocks.ops.neighborhood_attention.flex import Flex
from blocks.ops.neighborhood_attention.tiles import cut
from registry import Kernel, KernelError, recording, second_order

OWN = ("masked", "tiled", "tiled-math")
KERNELS = [kernel for kernel in neighborhood_attention.kernels() if kernel.name in OWN]
FUSED = [kernel for kernel in KERNELS if not kernel.second_order]
TRACED = [kernel for kernel in KERNELS if kernel.name != "tiled-math"]
FAST = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
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
    longer = st.one_of(st.just(0), st.integers(0, 20))  # none: each group is one window
    height, width = (kernel_size * dilation + draw(longer) for _ in range(2))
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
    generator = torch.Generator().manual_seed(seed)
    side = 2 * window["kernel_size"] - 1
    tensors = [LAYOUTS[layout](torch.randn(shape, generator=generator, dtype=torch.float64)) for _ in range(3)]
    tensors[0] = tensors[0] * size
    if with_bias:
        tensors.append(torch.randn(shape[3], side, side, generator=generator, dtype=torch.float64))
    return [x.to(dtype).requires_grad_() for x in tensors]


def run(kernel: Kernel, tensors: list[Tensor], window: dict[str, object]) -> Tensor:
    return kernel.run(*tensors[:3], bias=tensors[3] if len(tensors) > 3 else None, **window)


@FAST
@settings(deadline=None, max_examples=25, derandomize=True)
@given(call=calls())
def test_every_kernel_has_values_and_gradients_of_the_reference(kernel, call):
    tensors, window, dtype = leaves(**call), call["window"], call["dtype"]
    exact = [x.detach().double().requires_grad_() for x in tensors]
    actual, expected = run(kernel, tensors, window), run(neighborhood_attention.reference, exact, window)
    assert actual.dtype == dtype
    torch.testing.assert_close(actual.double(), expected, **TOLERANCE[dtype])
    if dtype == torch.bfloat16 and call["size"] > 1:
        return  # logits so large have no digits left to compare gradients by
    weights = torch.randn(call["shape"], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    actual_gradients = torch.autograd.grad(actual, tensors, weights.to(dtype))
    for ours, theirs in zip(actual_gradients, torch.autograd.grad(expected, exact, weights), strict=True):
        largest = theirs.abs().max().clamp(min=1.0)
        torch.testing.assert_close(ours.double() / largest, theirs / largest, **TOLERANCE[dtype])


@pytest.mark.parametrize(
    "kernel", [kernel for kernel in KERNELS if kernel.second_order], ids=lambda kernel: kernel.name
)
@settings(deadline=None, max_examples=5, derandomize=True)
@given(call=calls().filter(lambda call: call["shape"][1] * call["shape"][2] < 120))
def test_gradients_of_gradients_are_right_where_a_kernel_promises_them(kernel, call):
    tensors = leaves(**{**call, "dtype": torch.float64, "size": 1.0})
    assert torch.autograd.gradgradcheck(lambda *x: run(kernel, list(x), call["window"]), tensors, fast_mode=True)


@pytest.mark.parametrize("kernel", FUSED, ids=lambda kernel: kernel.name)
def test_a_fused_kernel_refuses_to_be_differentiated_twice(kernel):
    window = dict(kernel_size=3)
    tensors = leaves((1, 9, 9, 2, 4), window, True)
    gradients = torch.autograd.grad(run(kernel, tensors, window).square().sum(), tensors, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), tensors)


@pytest.mark.parametrize("kernel", FUSED, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("side", [8, 40])
def test_a_gradient_penalty_never_meets_a_fused_kernel(kernel, side):
    q = torch.zeros(1, side, side, 1, 4)
    with recording() as ran, second_order():
        neighborhood_attention(q, q, q, kernel_size=7)
    names = [candidate.name for candidate in neighborhood_attention.kernels() if candidate.second_order]
    assert ran[0][1] in names
    with second_order(), pytest.raises(KernelError, match=f"{kernel.name}: has no second derivative"):
        neighborhood_attention(q, q, q, kernel_size=7, kernel=kernel.name)


@pytest.mark.parametrize("kernel", TRACED, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("dynamic", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["static", "dynamic"])
def test_every_kernel_is_traced_whole(kernel, dynamic):
    torch._dynamo.reset()
    window = dict(kernel_size=3, dilation=2)
    compiled = torch.compile(
        lambda *x: run(kernel, list(x), window), fullgraph=True, dynamic=dynamic, backend="aot_eager"
    )
    for shape in [(1, 12, 14, 2, 4), (2, 17, 9, 2, 4)]:
        tensors = leaves(shape, window, True)
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
    torch.testing.assert_close(actual, run(neighborhood_attention.reference, tensors, window), rtol=1e-3, atol=1e-3)


@FAST
def test_mixed_precision_leaves_the_softmax_alone(kernel):
    window = dict(kernel_size=5)
    tensors = [x.detach().bfloat16() for x in leaves((1, 16, 16, 2, 8), window, True)]
    with torch.autocast("cpu", torch.bfloat16):
        actual = run(kernel, tensors, window)
    expected = run(neighborhood_attention.reference, [x.double() for x in tensors], window)
    torch.testing.assert_close(actual.double(), expected, rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize("with_bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_the_rules_of_flex_attention_are_those_of_the_reference(dilation, with_bias):
    flex, window = Flex(), dict(kernel_size=3, dilation=dilation)
    flex.attend = flex_attention  # not compiled, it runs anywhere
    tensors = [x.detach().float() for x in leaves((2, 11, 9, 2, 16), window, with_bias)]
    tensors[3:] = [bias.requires_grad_() for bias in tensors[3:]]  # it has no gradients of the others on a CPU
    actual, expected = run(flex, tensors, window), run(neighborhood_attention.reference, tensors, window)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    if with_bias:
        gradients = (torch.autograd.grad(y.square().sum(), tensors[3])[0] for y in (actual, expected))
        torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


def test_flex_attention_says_what_it_cannot_do():
    q = torch.zeros(1, 8, 8, 2, 12, dtype=torch.float64)
    reasons = "; ".join(Flex().unsupported(q, q, q, kernel_size=3))
    for said in ("runs on CUDA, not on cpu", "power of two of channels, at least 16, not 12", "not torch.float64"):
        assert said in reasons


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7, 9, 13])
def test_tiles_cover_an_axis_and_reach_all_that_is_seen(kernel_size):
    for length in range(kernel_size, 70):
        axis = cut(length, kernel_size)
        first, last = axis.tile - axis.before, length + axis.before - (axis.number - 1) * axis.tile
        assert axis.padded >= length
        assert axis.number == 1 or min(first, last) > kernel_size // 2

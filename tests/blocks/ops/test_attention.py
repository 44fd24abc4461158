"""Scaled dot-product attention: kernels against the definition, their gradients, and which kernel is selected."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blocks.ops.attention import attention
from blocks.ops.attention.compiled import Compiled
from registry import KernelError, recording, second_order
from tests.blocks.ops.examples import kernels_on_device
from tests.tensors import nondeterminism

pytestmark = pytest.mark.usefixtures("default_device")

TOLERANCE = {
    torch.float64: dict(rtol=1e-10, atol=1e-12),
    torch.float32: dict(rtol=1e-4, atol=1e-5),
    torch.bfloat16: dict(rtol=2e-2, atol=2e-2),
    torch.float16: dict(rtol=4e-3, atol=4e-3),
}

KERNELS = pytest.mark.parametrize("kernel", kernels_on_device(attention), ids=lambda kernel: kernel.name)

BIASES = pytest.mark.parametrize(
    "bias_shape", [None, (3, 10, 7), (10, 7), (3, 1, 7), (1, 10, 7), (2, 3, 10, 7)], ids=str
)


def draw(bias_shape: tuple[int, ...] | None, head_dim: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Queries of 10 pixels, keys and values of 7."""
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    q, k, v = normal(2, 3, 10, head_dim), normal(2, 3, 7, head_dim), normal(2, 3, 7, head_dim)
    return q, k, v, None if bias_shape is None else normal(*bias_shape)


@KERNELS
@BIASES
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("scale", [None, 0.3], ids=str)
@pytest.mark.parametrize("head_dim", [5, 16])
def test_every_kernel_agrees_with_the_definition(kernel, bias_shape, dtype, scale, head_dim):
    q, k, v, bias = (None if x is None else x.to(dtype) for x in draw(bias_shape, head_dim))
    if reasons := kernel.unsupported(q, k, v, bias=bias, scale=scale):
        pytest.skip("; ".join(reasons))
    actual = kernel.run(q, k, v, bias=bias, scale=scale)
    assert actual.dtype == dtype
    logits = (head_dim**-0.5 if scale is None else scale) * torch.einsum("bhnd,bhmd->bhnm", q.double(), k.double())
    weights = torch.exp(logits if bias is None else logits + bias.double())
    expected = torch.einsum("bhnm,bhmd->bhnd", weights / weights.sum(-1, keepdim=True), v.double())
    torch.testing.assert_close(actual.double(), expected, **TOLERANCE[dtype])


@KERNELS
@BIASES
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_every_kernel_has_the_gradients_of_the_reference(kernel, bias_shape, dtype):
    leaves = [x.to(dtype).requires_grad_() for x in draw(bias_shape, head_dim=16) if x is not None]
    exact = [x.detach().double().requires_grad_() for x in leaves]

    def gradients(run, leaves: list[Tensor]) -> tuple[Tensor, ...]:
        y = run(*leaves[:3], bias=leaves[3] if bias_shape else None)
        return torch.autograd.grad(y.double().square().sum(), leaves)

    if reasons := kernel.unsupported(*leaves[:3], bias=leaves[3] if bias_shape else None):
        pytest.skip("; ".join(reasons))
    for actual, expected in zip(gradients(kernel.run, leaves), gradients(attention.reference.run, exact), strict=True):
        largest = expected.abs().max()
        torch.testing.assert_close(actual.double() / largest, expected / largest, **TOLERANCE[dtype])


@pytest.mark.parametrize(
    "kernel", [kernel for kernel in attention.kernels() if kernel.second_order], ids=lambda k: k.name
)
def test_second_order_kernels_have_second_derivatives(kernel):
    leaves = [x.requires_grad_() for x in draw((3, 10, 7), head_dim=2)]
    if reasons := kernel.unsupported(*leaves[:3], bias=leaves[3]):
        pytest.skip("; ".join(reasons))
    assert torch.autograd.gradgradcheck(
        lambda q, k, v, bias: kernel.run(q, k, v, bias=bias), leaves, fast_mode=True, nondet_tol=nondeterminism()
    )


@pytest.mark.skipif(torch.get_default_device().type != "cpu", reason="elsewhere float64 has no fused back end")
@pytest.mark.skipif(Compiled().unavailable() is not None, reason=str(Compiled().unavailable()))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("queries", "keys", "dim"), [(33, 64, 64), (70, 37, 32), (1, 1, 32), (31, 8, 96), (64, 0, 32), (0, 5, 32)]
)
def test_the_compiled_kernel_takes_any_number_of_queries_and_keys(queries, keys, dim, dtype, threads):
    if reasons := Compiled().unsupported(*(torch.zeros(1, 1, 1, dim, dtype=dtype, device="cpu"),) * 3):
        pytest.skip("; ".join(reasons))
    random = torch.Generator("cpu").manual_seed(0)
    q, k, v = (
        torch.randn(2, length, 3, dim, generator=random, device="cpu").to(dtype).transpose(1, 2)  # not contiguous
        for length in (queries, keys, keys)
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    actual = Compiled().run(q, k, v, scale=0.3)
    torch.set_num_threads(before)
    expected = attention.reference.run(q.double(), k.double(), v.double(), scale=0.3)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=tolerance)


def test_second_order_mode_replaces_sdpa_which_has_no_second_derivative():
    if torch.get_default_device().type != "cpu":
        pytest.skip("on CUDA, float64 is left to sdpa's math back end, which has a second derivative")
    q, k, v, _ = (x if x is None else x.requires_grad_() for x in draw(None))

    def penalty(y: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(y.square().sum(), q, create_graph=True)
        return gradient.square().sum()

    with recording() as ran:
        fused = attention(q, k, v)
        with pytest.raises(RuntimeError, match=r"derivative .* is not implemented"):
            penalty(fused).backward()
        with second_order():
            penalty(attention(q, k, v)).backward()
    assert ran == [("attention", "sdpa"), ("attention", "reference")]
    assert q.grad.abs().min() > 0


def test_selecting_sdpa_in_second_order_mode_raises_with_the_reason():
    q, k, v, _ = draw(None)
    with second_order(), pytest.raises(KernelError, match="sdpa: has no second derivative"):
        attention(q, k, v, kernel="sdpa")
    with pytest.raises(KernelError, match=r"should have one dtype, not torch.float64, torch.float32"):
        attention(q, k.float(), v, kernel="sdpa")


@KERNELS
@pytest.mark.parametrize("value_dim", [4, 6], ids=["fused", "math"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_low_precision_sums_many_weights_accurately(kernel, value_dim, dtype):
    q, k, v = (torch.zeros(1, 1, n, d, dtype=dtype) for n, d in ((1, 4), (5000, 4), (5000, value_dim)))
    if reasons := kernel.unsupported(q, k, v):
        pytest.skip("; ".join(reasons))
    torch.testing.assert_close(kernel.run(q, k, v + 1), torch.ones_like(v[:, :, :1]), rtol=1e-2, atol=0)

"""Attention over whole maps: every kernel is the reference, and none is chosen for what it cannot do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blocks.attention.dense import DenseAttention
from blocks.ops.attention import attention
from registry import IncompatibleError, KernelError, recording, second_order

TOLERANCE = {
    torch.float64: dict(rtol=1e-10, atol=1e-12),
    torch.float32: dict(rtol=1e-4, atol=1e-5),
    torch.bfloat16: dict(rtol=2e-2, atol=2e-2),
}
AVAILABLE = [kernel for kernel in attention.kernels() if kernel.unavailable() is None]
KERNELS = pytest.mark.parametrize("kernel", AVAILABLE, ids=lambda kernel: kernel.name)
BIASES = pytest.mark.parametrize(
    "bias_shape", [None, (3, 10, 7), (10, 7), (3, 1, 7), (1, 10, 7), (2, 3, 10, 7)], ids=str
)


def draw(bias_shape: tuple[int, ...] | None, head_dim: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Queries of 10 pixels, keys and values of 7."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    q, k, v = normal(2, 3, 10, head_dim), normal(2, 3, 7, head_dim), normal(2, 3, 7, head_dim)
    return q, k, v, None if bias_shape is None else normal(*bias_shape)


@KERNELS
@BIASES
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("scale", [None, 0.3], ids=str)
def test_every_kernel_agrees_with_the_definition(kernel, bias_shape, dtype, scale):
    q, k, v, bias = (None if x is None else x.to(dtype) for x in draw(bias_shape))
    if reasons := kernel.unsupported(q, k, v, bias=bias, scale=scale):
        pytest.skip("; ".join(reasons))
    actual = kernel.run(q, k, v, bias=bias, scale=scale)
    assert actual.dtype == dtype
    logits = (5**-0.5 if scale is None else scale) * torch.einsum("bhnd,bhmd->bhnm", q.double(), k.double())
    weights = torch.exp(logits if bias is None else logits + bias.double())
    expected = torch.einsum("bhnm,bhmd->bhnd", weights / weights.sum(-1, keepdim=True), v.double())
    torch.testing.assert_close(actual.double(), expected, **TOLERANCE[dtype])


@KERNELS
@BIASES
def test_every_kernel_has_the_gradients_of_the_reference(kernel, bias_shape):
    leaves = [x.requires_grad_() for x in draw(bias_shape) if x is not None]

    def gradients(run) -> tuple[Tensor, ...]:
        y = run(*leaves[:3], bias=leaves[3] if bias_shape else None)
        return torch.autograd.grad(y.square().sum(), leaves)

    for actual, expected in zip(gradients(kernel.run), gradients(attention.reference.run), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    "kernel", [kernel for kernel in attention.kernels() if kernel.second_order], ids=lambda k: k.name
)
def test_kernels_that_say_so_can_be_differentiated_twice(kernel):
    leaves = [x.requires_grad_() for x in draw((3, 10, 7), head_dim=2)]
    assert torch.autograd.gradgradcheck(lambda q, k, v, bias: kernel.run(q, k, v, bias=bias), leaves, fast_mode=True)


def test_sdpa_raises_when_differentiated_twice_and_a_gradient_penalty_never_gets_it():
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


def test_sdpa_by_name_under_a_gradient_penalty_is_an_error_with_its_reason():
    q, k, v, _ = draw(None)
    with second_order(), pytest.raises(KernelError, match="sdpa: has no second derivative"):
        attention(q, k, v, kernel="sdpa")
    with pytest.raises(KernelError, match=r"should have one dtype, not torch.float64, torch.float32"):
        attention(q, k.float(), v, kernel="sdpa")


@KERNELS
@pytest.mark.parametrize("value_dim", [4, 6], ids=["fused", "math"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_low_precision_does_not_lose_the_sum_of_many_weights(kernel, value_dim, dtype):
    q, k, v = (torch.zeros(1, 1, n, d, dtype=dtype) for n, d in ((1, 4), (5000, 4), (5000, value_dim)))
    if reasons := kernel.unsupported(q, k, v):
        pytest.skip("; ".join(reasons))
    torch.testing.assert_close(kernel.run(q, k, v + 1), torch.ones_like(v[:, :, :1]), rtol=1e-2, atol=0)


def test_the_position_bias_is_counted_from_key_minus_query_on_maps_that_are_no_squares():
    block = DenseAttention(4, (2, 3), num_heads=2, relative_position_bias=True)
    table = torch.arange(2 * 3 * 5.0).view(2, 3, 5)
    block.rpb.data.copy_(table)
    bias = block.position_bias(2, 3).view(2, 2, 3, 2, 3)
    for y, x, v, u in torch.cartesian_prod(*map(torch.arange, (2, 3, 2, 3))).tolist():
        assert torch.equal(bias[:, y, x, v, u], table[:, v - y + 1, u - x + 2])


def test_without_position_bias_the_order_of_pixels_does_not_matter():
    block = DenseAttention(12, (3, 5), num_heads=4, qkv_bias=False)
    x = torch.randn(2, 3, 5, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(block(x.flip(1, 2)), block(x).flip(1, 2))
    assert block.qkv.bias is None


@pytest.mark.parametrize("kernel", ["auto", "tune", *(kernel.name for kernel in AVAILABLE)])
def test_the_block_can_be_compiled(kernel):
    block = DenseAttention(8, (3, 4), num_heads=2, relative_position_bias=True, kernel=kernel)
    x = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.compile(block, fullgraph=True, backend="aot_eager")(x), block(x))


def test_misfits_and_unknown_kernels_are_named():
    with pytest.raises(IncompatibleError, match=r"num_heads +20 channels do not split evenly over 8 heads"):
        DenseAttention(20, 8)
    with pytest.raises(IncompatibleError, match=r"kernel +attention has no kernel 'spda'; did you mean sdpa"):
        DenseAttention(16, 8, kernel="spda")

"""L2 attention: every kernel against the definition, and which kernel is chosen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blocks.ops.l2_attention import FEWEST_KEYS, l2_attention
from registry import KernelError, recording, second_order
from tests.blocks.ops.examples import kernels_on_device
from tests.tensors import nondeterminism

pytestmark = pytest.mark.usefixtures("default_device")

TOLERANCE = {
    torch.float64: dict(rtol=1e-10, atol=1e-12),
    torch.float32: dict(rtol=1e-4, atol=1e-5),
    torch.bfloat16: dict(rtol=5e-2, atol=5e-2),
}
KERNELS = pytest.mark.parametrize("kernel", kernels_on_device(l2_attention), ids=lambda kernel: kernel.name)
FUSED = pytest.mark.parametrize("name", [kernel.name for kernel in l2_attention.kernels() if not kernel.second_order])


def draw(tokens: int = 7, offset: float = 0.0, keys: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    shapes = ((2, 3, tokens, 5), (2, 3, keys or tokens, 5), (2, 3, keys or tokens, 4))
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) + offset for shape in shapes)


def definition(q: Tensor, k: Tensor, v: Tensor, squared: bool, sign: int, scale: float) -> Tensor:
    distances = (q[..., :, None, :] - k[..., None, :, :]).square().sum(-1)
    weights = torch.exp(sign * scale * (distances if squared else distances.sqrt()))
    return weights @ v / weights.sum(-1, keepdim=True)


@KERNELS
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("squared", [True, False], ids=["squared", "root"])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("scale", [None, 0.2], ids=str)
def test_every_kernel_agrees_with_the_definition(kernel, dtype, squared, sign, scale):
    q, k, v = (x.to(dtype) for x in draw(9, keys=FEWEST_KEYS))
    if reasons := kernel.unsupported(q, k, v, squared=squared):
        pytest.skip("; ".join(reasons))
    expected = definition(q.double(), k.double(), v.double(), squared, sign, scale or 5**-0.5)
    actual = kernel.run(q, k, v, squared=squared, sign=sign, scale=scale)
    assert actual.dtype == dtype
    torch.testing.assert_close(actual.double(), expected, **TOLERANCE[dtype])


@KERNELS
def test_every_kernel_has_the_gradients_of_the_reference(kernel):
    leaves = [x.requires_grad_() for x in draw(6)]

    def gradients(run) -> tuple[Tensor, ...]:
        return torch.autograd.grad(run(*leaves, sign=1).square().sum(), leaves)

    for actual, expected in zip(gradients(kernel.run), gradients(l2_attention.reference.run), strict=True):
        torch.testing.assert_close(actual, expected)


@KERNELS
def test_key_norms_replace_the_norms_of_the_keys(kernel):
    q, k, v = draw(6)
    norms = torch.rand(2, 3, 6, dtype=torch.float64).requires_grad_()
    weights = torch.softmax(0.3 * (norms[..., None, :] - 2 * q @ k.mT), -1)
    actual = kernel.run(q, k, v, sign=1, scale=0.3, key_norms=norms)
    torch.testing.assert_close(actual, weights @ v)
    (gradient,) = torch.autograd.grad(actual.square().sum(), norms)
    (expected,) = torch.autograd.grad((weights @ v).square().sum(), norms)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("squared", [True, False], ids=["squared", "root"])
def test_the_reference_can_be_differentiated_twice(squared):
    leaves = [x[:1, :1, :4].clone().requires_grad_() for x in draw(4)]
    run = l2_attention.reference.run
    assert torch.autograd.gradgradcheck(
        lambda q, k, v: run(q, k, v, squared=squared), leaves, fast_mode=True, nondet_tol=nondeterminism()
    )


def test_a_query_that_is_its_own_key_has_gradients_of_both_orders():
    q, _, v = draw(6)
    q.requires_grad_()
    y = l2_attention.reference.run(q, q, v, squared=False, sign=1)
    (gradient,) = torch.autograd.grad(y.square().sum(), q, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), q)
    assert gradient.isfinite().all()
    assert second.isfinite().all()
    assert torch.autograd.gradcheck(
        lambda x: l2_attention.reference.run(x, x, v, squared=False), [q], fast_mode=True, nondet_tol=nondeterminism()
    )


@FUSED
@pytest.mark.skipif(torch.get_default_device().type != "cpu", reason="elsewhere float64 has no fused back end")
def test_fused_kernels_raise_when_differentiated_twice_and_second_order_mode_refuses_them(name):
    q, k, v = (x.requires_grad_() for x in draw(FEWEST_KEYS))
    v = v.detach()
    (kernel,) = (kernel for kernel in l2_attention.kernels() if kernel.name == name)

    def penalty(y: Tensor) -> None:
        (gradient,) = torch.autograd.grad(y.square().sum(), q, create_graph=True)
        gradient.square().sum().backward()

    with pytest.raises(RuntimeError, match=r"derivative .* is not implemented"):
        penalty(kernel.run(q, k.detach(), torch.cat([v, v[..., :1]], -1)))
    with recording() as ran, second_order():
        penalty(l2_attention(q, k, v))
        with pytest.raises(KernelError, match="has no second derivative"):
            l2_attention(q, k, v, kernel=name)
    assert ran == [("l2_attention", "reference")]


def test_the_choice_depends_on_gradients_keys_and_squares():
    q, k, v = draw(FEWEST_KEYS)

    def chosen(*args: Tensor, **options: bool) -> str:
        with recording() as ran:
            l2_attention(*args, **options)
        return ran[0][1]

    assert chosen(q, k, v) == "biased"
    assert chosen(q, k, v, squared=False) == "reference"
    assert chosen(q, k.requires_grad_(), v) == "augmented"
    assert chosen(q, k[:, :, 1:], v[:, :, 1:]) == "reference"
    assert chosen(q.bfloat16(), k.detach().bfloat16(), v.bfloat16()) == "augmented"


@KERNELS
def test_distances_do_not_depend_on_where_the_origin_is(kernel):
    near = [x.float() for x in draw(FEWEST_KEYS)]
    far = [near[0] + 1000, near[1] + 1000, near[2]]
    y, expected = kernel.run(*far, sign=1, scale=0.05), kernel.run(*near, sign=1, scale=0.05)
    torch.testing.assert_close(y, expected, rtol=1e-2, atol=1e-3)


def test_low_precision_keeps_small_differences_of_distance():
    q, k, v = draw(FEWEST_KEYS)
    k = 0.05 * k + 4 * torch.nn.functional.normalize(k, dim=-1)  # norms of 16 that differ by little
    low = [x.bfloat16() for x in (q, k, v)]
    expected = l2_attention.reference.run(*(x.double() for x in low))
    (kernel,) = (kernel for kernel in l2_attention.kernels() if kernel.name == "augmented")
    assert (kernel.run(*low).double() - expected).abs().max() < 0.05


@pytest.mark.parametrize("name", ["auto", *(kernel.name for kernel in l2_attention.kernels())])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_every_kernel_can_be_traced(name, dynamic):
    attend = l2_attention.bind(name)
    compiled = torch.compile(lambda q, k, v: attend(q, k, v), fullgraph=True, backend="aot_eager", dynamic=dynamic)
    with torch.no_grad():
        for tokens in (FEWEST_KEYS, FEWEST_KEYS + 3) if dynamic else (FEWEST_KEYS,):
            q, k, v = draw(tokens)
            torch.testing.assert_close(compiled(q, k, v), attend(q, k, v))


@KERNELS
def test_shapes_can_be_inferred(kernel):
    q, k, v = (x.to("meta") for x in draw(6))
    assert kernel.run(q, k, v).shape == (2, 3, 6, 4)

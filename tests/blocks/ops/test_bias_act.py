"""Bias, activation, gain, clamp: in this order, and differentiable twice."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from blocks.ops.bias_act import bias_act
from tests.tensors import nondeterminism

pytestmark = pytest.mark.usefixtures("default_device")

ACTIVATIONS = {
    "linear": lambda x: x,
    "lrelu": lambda x: torch.where(x > 0, x, 0.2 * x) * math.sqrt(2),
    "relu": lambda x: F.relu(x) * math.sqrt(2),
    "swish": lambda x: x / (1 + torch.exp(-x)) * math.sqrt(2),
}


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator(torch.get_default_device()).manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("kernel", ["in-place", "reference"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_every_kernel_agrees_with_the_definition(kernel, activation, dtype):
    x, bias = normal(2, 3, 4, 5).to(dtype), torch.tensor([0.5, -1, 2]).to(dtype)
    expected = ACTIVATIONS[activation](x.double() + bias.double()[:, None, None])
    actual = bias_act(x, bias, activation=activation, kernel=kernel)
    assert actual.dtype == dtype
    torch.testing.assert_close(
        actual.double(),
        expected,
        **dict(rtol=2e-2, atol=2e-2) if dtype == torch.bfloat16 else dict(rtol=1e-5, atol=1e-6),
    )


def test_gain_comes_before_clamp_and_slope_is_free():
    x = torch.tensor([[-10.0, 1.0, 10.0]])
    torch.testing.assert_close(
        bias_act(x, activation="lrelu", slope=0.1, gain=3.0, clamp=5.0), torch.tensor([[-3.0, 3.0, 5.0]])
    )
    assert bias_act(x) is x


@pytest.mark.parametrize("kernel", ["in-place", "reference"])
@pytest.mark.parametrize("dim", [1, -1])
@pytest.mark.parametrize("axes", [2, 3])
def test_noise_is_added_to_all_channels_of_a_pixel(kernel, dim, axes):
    noise, bias = normal(2, 4, 5), normal(3)
    noise = noise[-axes:] if axes == 3 else noise[0]
    x = normal(2, 3, 4, 5) if dim == 1 else normal(2, 4, 5, 3)
    expected = (x.movedim(dim, 1) + noise[..., None, :, :] + bias[:, None, None]).movedim(1, dim)
    torch.testing.assert_close(bias_act(x, bias, noise=noise, dim=dim, kernel=kernel), expected)


@pytest.mark.parametrize("kernel", ["in-place", "reference"])
@pytest.mark.parametrize("dim", [1, -1])
@pytest.mark.parametrize("samples", [(), (2,)], ids=["shared", "per-sample"])
def test_scale_and_bias_may_differ_between_samples(kernel, dim, samples):
    scale, bias, noise = normal(*samples, 3), normal(*samples, 3) + 1, normal(4, 5)
    x = normal(2, 3, 4, 5) if dim == 1 else normal(2, 4, 5, 3)
    expected = (x.movedim(dim, 1) * scale[..., None, None] + noise + bias[..., None, None]).movedim(1, dim)
    torch.testing.assert_close(bias_act(x, bias, scale=scale, noise=noise, dim=dim, kernel=kernel), expected)


@pytest.mark.parametrize(("shape", "dim"), [((2, 3), 1), ((2, 3), -1), ((2, 4, 3), -1), ((3, 2, 2), 0)])
def test_channels_may_lie_on_any_axis(shape, dim):
    x, bias = normal(*shape), torch.arange(3.0, dtype=torch.float64)
    expected = (x.movedim(dim, -1) + bias).movedim(-1, dim)
    torch.testing.assert_close(bias_act(x, bias, dim=dim), expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_it_can_be_differentiated_twice(activation):
    leaves = [normal(2, 3, 2, 2).requires_grad_(), normal(3).requires_grad_()]

    def run(x, bias):
        return bias_act(x, bias, activation=activation, clamp=2.0) ** 2

    assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True, nondet_tol=nondeterminism())


def test_it_can_be_traced_and_shapes_inferred():
    act = bias_act.bind()
    compiled = torch.compile(lambda x: act(x, activation="lrelu"), fullgraph=True, backend="aot_eager", dynamic=True)
    torch.testing.assert_close(compiled(normal(2, 3)), act(normal(2, 3), activation="lrelu"))
    assert bias_act(torch.empty(2, 3, 4, device="meta"), activation="swish").shape == (2, 3, 4)


@pytest.mark.parametrize("names", [("scale",), ("bias", "noise"), ("scale", "bias", "noise")], ids="+".join)
def test_x_is_overwritten_if_it_may_be(names):
    x = normal(2, 3, 4, 5)
    values = {"scale": normal(2, 3), "bias": normal(3) + 1, "noise": normal(4, 5)}
    options = {**{name: values[name] for name in names}, "activation": "swish", "clamp": 0.7}
    expected = bias_act(x, **options, kernel="reference")
    overwritten = x.clone()
    assert bias_act(overwritten, **options, inplace=True, kernel="in-place") is overwritten
    torch.testing.assert_close(overwritten, expected)


def test_x_is_not_overwritten_if_a_gradient_is_needed():
    x, bias = normal(2, 3, 4, 5), normal(3).requires_grad_()
    before = x.clone()
    bias_act(x, bias, activation="lrelu", inplace=True).sum().backward()
    assert torch.equal(x, before)

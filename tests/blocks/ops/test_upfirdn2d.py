"""upfirdn2d: every kernel against the definition in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blocks.ops.upfirdn2d import pair, upfirdn2d
from registry import KernelError
from tests.tensors import nondeterminism, normal

pytestmark = pytest.mark.usefixtures("default_device")

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}


CALLS = [
    {},
    {"up": 2, "padding": (2, 1, 2, 1), "gain": 4.0},
    {"down": 2, "padding": (1, 1, 1, 1)},
    {"up": (3, 2), "padding": (5, 0, 7, 9)},
    {"up": (1, 3), "padding": (2, 0, -1, 2), "flip_filter": True},
    {"up": (2, 3), "down": (3, 2), "padding": (4, -1, 3, 1), "gain": 1.5},
    {"down": (2, 3), "padding": (3, 3, 3, 3), "flip_filter": True},
]


FILTERS = {
    "short": torch.tensor([1.0, 3.0, 2.0]),
    "long": torch.arange(1.0, 10.0),
    "flat": torch.tensor([[1.0, 2.0, 0.5, -1.0], [3.0, 1.0, 4.0, 2.0], [0.5, 5.0, 1.0, 2.0]]),
}


def definition(x: Tensor, taps: Tensor, up=1, down=1, padding=(0, 0, 0, 0), gain=1.0, flip_filter=False) -> Tensor:
    """Zeros between pixels, zeros around them, and for each tap the map shifted by it."""
    (up_x, up_y), (down_x, down_y) = pair(up), pair(down)
    taps = torch.outer(taps, taps) if taps.ndim == 1 else taps
    taps = taps.flip(0, 1) if flip_filter else taps
    between = x.new_zeros(*x.shape[:2], x.shape[2] * up_y, x.shape[3] * up_x)
    between[:, :, ::up_y, ::up_x] = x
    around = F.pad(between, padding)
    (tall, wide), (height, width) = taps.shape, around.shape[2:]
    y = sum(
        taps[a, b] * around[:, :, tall - 1 - a : height - a, wide - 1 - b : width - b]
        for a in range(tall)
        for b in range(wide)
    )
    return gain * y[:, :, ::down_y, ::down_x]


@pytest.mark.parametrize("kernel", upfirdn2d.kernels(), ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("taps", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_every_kernel_matches_the_definition(kernel, dtype, taps, call):
    x = normal(2, 2, 11, 10, dtype=dtype)
    if reasons := kernel.unsupported(x, taps, **call):
        pytest.skip("; ".join(reasons))
    expected = definition(x.double(), taps.double(), **call)
    y = kernel.run(x, taps, **call)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=TOLERANCE[dtype] * expected.abs().max().item())


@pytest.mark.parametrize("kernel", upfirdn2d.kernels(), ids=lambda kernel: kernel.name)
def test_every_kernel_has_second_derivatives(kernel):
    assert kernel.second_order
    taps = FILTERS["long"] if kernel.name == "separable" else FILTERS["flat"]
    x = normal(1, 2, 5, 4).requires_grad_()
    if reasons := kernel.unsupported(x, taps, up=2, padding=(4, 4, 4, 4)):
        pytest.skip("; ".join(reasons))

    def run(x: Tensor) -> Tensor:
        return kernel.run(x, taps, up=2, padding=(4, 4, 4, 4)).sin()  # a linear map alone would have none

    assert torch.autograd.gradcheck(run, x, nondet_tol=nondeterminism())
    assert torch.autograd.gradgradcheck(run, x, nondet_tol=nondeterminism())


def test_a_kernel_reports_why_it_does_not_support_a_call():
    bound = upfirdn2d.bind("transposed")
    with pytest.raises(KernelError, match="only upsamples; needs a filter of two dimensions"):
        bound(normal(1, 1, 4, 4), FILTERS["short"], down=2)

"""StyleGAN2's synthesis layer against a convolution for each sample."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blocks.layer.modulated_conv import ModulatedConv


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(**options: Any) -> ModulatedConv:
    torch.manual_seed(0)
    block = ModulatedConv(6, (5, 4), 7, **options).double().eval()
    torch.nn.init.normal_(block.bias)
    return block


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [1, 2])
def test_weights_are_modulated_for_each_sample(up: Any, demodulate: bool) -> None:
    block = layer(dim=4, up=up, demodulate=demodulate, clamp=0.9)
    torch.nn.init.constant_(block.noise.strength, 0.3)
    x, ws = normal(2, 6, 5, 4), normal(2, 1, 7, seed=1)
    actual = block(x, ws)
    assert actual.shape == (2, 4, 5 * up, 4 * up)
    for sample in range(2):
        weight = block.weight / 54**0.5 * block.affine(ws[sample, 0])[:, None, None]
        if demodulate:
            weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        inside = x[sample : sample + 1]
        if up == 2:
            grown = inside.new_zeros(1, 6, 10, 8)
            grown[:, :, ::2, ::2] = inside
            taps = torch.tensor([1.0, 3, 3, 1], dtype=torch.float64) / 4  # of sum 2 on each axis: gain 4
            blur = torch.outer(taps, taps).expand(6, 1, 4, 4)
            inside = F.conv2d(F.pad(grown, (3, 2, 3, 2)), blur, groups=6)  # one pixel more on each side, for the kernel
            y = F.conv2d(inside, weight.flip(2, 3))
        else:
            y = F.conv2d(inside, weight, padding=1)
        y = y[0] + 0.3 * block.noise.const
        y = (F.leaky_relu(y + block.bias[:, None, None], 0.2) * 2**0.5).clamp(-0.9, 0.9)
        torch.testing.assert_close(actual[sample], y)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [1, 2])
def test_a_bank_of_filters_is_weighted_by_the_style_of_each_sample(up: Any, demodulate: bool) -> None:
    bank = layer(dim=4, up=up, demodulate=demodulate, num_filters=3)
    single = layer(dim=4, up=up, demodulate=demodulate)
    state = {name: value for name, value in bank.state_dict().items() if not name.startswith("select.")}
    x, ws = normal(2, 6, 5, 4), normal(2, 1, 7, seed=1)
    shares = bank.select(ws[:, 0]).softmax(dim=1)
    assert not torch.allclose(shares[0], shares[1])
    for sample in range(2):
        weight = (shares[sample].view(3, 1, 1, 1, 1) * bank.weight.view(3, 4, 6, 3, 3)).sum(dim=0)
        single.load_state_dict(state | {"weight": weight})
        expected = single(x[sample : sample + 1], ws[sample : sample + 1])
        torch.testing.assert_close(bank(x, ws)[sample : sample + 1], expected)


def test_one_filter_is_no_bank() -> None:
    assert not [name for name, _ in layer().named_parameters() if name.startswith("select")]


def test_demodulated_outputs_have_unit_variance_for_any_style() -> None:
    torch.manual_seed(0)
    block = ModulatedConv(64, 16, 8, noise=False, activation="linear")
    for scale in (1.0, 30.0):
        y = block(torch.randn(4, 64, 16, 16), scale * torch.randn(4, 1, 8))
        assert y[:, :, 2:-2, 2:-2].std().item() == pytest.approx(1, rel=0.1)


def test_gain_scales_the_clamp_too() -> None:
    options: dict[str, Any] = {"style_order": 2, "noise": False}
    torch.manual_seed(0)
    plain, gained = ModulatedConv(8, 4, 5, **options), ModulatedConv(8, 4, 5, **options, gain=0.25, clamp=0.5)
    gained.load_state_dict(plain.state_dict())
    x, ws = torch.randn(2, 8, 4, 4), torch.randn(2, 1, 5)
    torch.testing.assert_close(gained(x, ws), (plain(x, ws) * 0.25).clamp(-0.125, 0.125))

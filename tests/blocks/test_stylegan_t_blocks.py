"""The parts of StyleGAN-T's networks against formulas of their papers and against torch's own layers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from assemblies import LayeredGenerator, parse
from assemblies.models.stylegan_t import presets as stylegan_t
from blocks import BatchNormLocal, BypassMapping, GroupNorm, ModulatedConv, Residual, TokenConvHead, ToRGB, noise_mode
from blocks.common.style import StylePolynomial
from registry import IncompatibleError


def test_styles_of_second_order_are_a_product_and_a_sum_of_three_affine_maps() -> None:
    block, w = StylePolynomial(5, 4), torch.randn(3, 5)
    first, second, third = block.proj(w).split(4, dim=1)
    torch.testing.assert_close(block(w), first * second + third)
    torch.testing.assert_close(block(torch.zeros(1, 5)), torch.full((1, 4), 2.0))


def test_a_residual_adds_to_what_the_norm_made_of_its_input() -> None:
    block = Residual(8, 4, 5, norm={"kind": "group-norm", "num_groups": 2}, layer_scale=0.3).eval()
    x, ws = torch.randn(2, 8, 4, 4), torch.randn(2, 1, 5)
    normal = nn.functional.group_norm(x, 2)
    torch.testing.assert_close(block(x, ws), math.sqrt(2) * (normal + 0.3 * block.layer(normal, ws)))


def test_a_raw_residual_without_norm_adds_to_its_input() -> None:
    block = Residual(8, 4, norm=None, layer={"kind": "conv", "dim": 8}, layer_scale=1.0, residual="raw", gain=1.0)
    x = torch.randn(2, 8, 4, 4)
    torch.testing.assert_close(block(x), x + block.layer(x))


def test_a_residual_gives_its_layer_and_its_norm_styles_of_their_own() -> None:
    block = Residual(8, 4, 5, norm="adain")
    assert block.num_styles == 2
    with pytest.raises(IncompatibleError, match="2 layers do not go into one branch"):
        Residual(8, 4, 5, layer={"kind": "modulated-conv", "repeat": 2})
    with pytest.raises(ValueError, match=r"the layer makes \[6, 4, 4\] of \[8, 4, 4\]"):
        Residual(8, 4, norm=None, layer={"kind": "conv", "dim": 6})(torch.zeros(1, 8, 4, 4))


def test_the_gain_of_a_modulated_convolution_bounds_its_clamp_too() -> None:
    options: dict[str, Any] = {"style_order": 2, "noise": False}
    torch.manual_seed(0)
    plain, gained = ModulatedConv(8, 4, 5, **options), ModulatedConv(8, 4, 5, **options, gain=0.25, clamp=0.5)
    gained.load_state_dict(plain.state_dict())
    x, ws = torch.randn(2, 8, 4, 4), torch.randn(2, 1, 5)
    torch.testing.assert_close(gained(x, ws), (plain(x, ws) * 0.25).clamp(-0.125, 0.125))


def test_a_readout_of_second_order_shares_the_next_style() -> None:
    block = ToRGB(8, 5, 3, modulation="modulate", style_order=2, clamp=0.5)
    assert (block.num_styles, block.shares_next_style) == (1, True)
    assert block(torch.randn(2, 8, 4, 4) * 100, torch.randn(2, 1, 5)).abs().max() == 0.5


def test_group_norm_is_torchs_and_learns_where_its_input_needs_no_gradient() -> None:
    block, theirs = GroupNorm(12, num_groups=3), nn.GroupNorm(3, 12)
    with torch.no_grad():
        theirs.weight.copy_(block.weight.normal_())
        theirs.bias.copy_(block.bias.normal_())
    x = torch.randn(2, 12, 5, 7).contiguous(memory_format=torch.channels_last)
    y = block(x.permute(0, 2, 3, 1))
    torch.testing.assert_close(y.permute(0, 3, 1, 2), theirs(x))
    y.square().sum().backward()
    assert block.weight.grad is not None
    assert block.weight.grad.isfinite().all()


@pytest.mark.parametrize(("batch", "groups"), [(4, [4]), (8, [8]), (12, [6, 6]), (9, [5, 4]), (17, [6, 6, 5])])
def test_local_batch_norm_is_batch_norm_of_each_group_of_any_batch(batch: int, groups: list[int]) -> None:
    block, theirs = BatchNormLocal(6), nn.BatchNorm1d(6, track_running_stats=False)
    x = torch.randn(batch, 6, 10)
    expected = torch.cat([theirs(part) for part in x.split(groups)])
    torch.testing.assert_close(block(x.mT[:, None])[:, 0].mT, expected)
    torch.testing.assert_close(block.eval()(x.mT[:, None])[:, 0].mT, expected)


def test_a_condition_passes_the_mapping_by() -> None:
    mapping = BypassMapping(6, 9, 4, 3)
    z, c = torch.randn(2, 6), torch.randn(2, 3)
    ws = mapping.eval()(z, c)
    assert ws.shape == (2, 4, 9)
    assert torch.equal(ws[:, :, 6:], c[:, None].expand(-1, 4, -1))
    assert torch.equal(ws[:, :, :6], BypassMapping.forward(mapping, z, c * 0)[:, :, :6])


def test_truncation_goes_towards_the_mean_of_each_prompt() -> None:
    mapping = BypassMapping(6, 9, 4, 3).eval()
    mapping.w_avg.normal_()
    z, c = torch.randn(2, 6), torch.randn(2, 3)
    whole, mean = mapping(z, c), torch.cat([mapping.w_avg.expand(2, -1), c], dim=1)[:, None]
    torch.testing.assert_close(mapping(z, c, truncation_psi=0.0), mean.expand(-1, 4, -1))
    torch.testing.assert_close(mapping(z, c, truncation_psi=0.7), mean + 0.7 * (whole - mean))
    cut = mapping(z, c, truncation_psi=0.7, truncation_cutoff=1)
    torch.testing.assert_close(cut[:, :1], (mean + 0.7 * (whole - mean))[:, :1])
    assert torch.equal(cut[:, 1:], whole[:, 1:])


def test_the_mean_follows_in_training_unless_told_not_to() -> None:
    mapping = BypassMapping(6, 6, 1, w_avg_beta=0.9)
    z = torch.randn(8, 6)
    w = mapping(z, update_w_avg=False)[:, 0]
    assert not mapping.w_avg.any()
    mapping(z)
    torch.testing.assert_close(mapping.w_avg, 0.1 * w.mean(0).detach())


def test_mapping_errors_say_what_to_do() -> None:
    with pytest.raises(IncompatibleError, match="no room beside a condition of 6; give the generator w_dim: 11"):
        BypassMapping(5, 6, 4, 6)
    with pytest.raises(ValueError, match="made for conditions of 3 features: give c"):
        BypassMapping(6, 9, 4, 3)(torch.randn(2, 6))
    with pytest.raises(ValueError, match="made without a condition: it takes no c"):
        BypassMapping(6, 9, 4)(torch.randn(2, 6), torch.randn(2, 3))


def test_kernels_of_the_token_head_go_round() -> None:
    head = TokenConvHead(4, (1, 12), kernel_size=5, norm={"kind": "group-norm", "num_groups": 1}, weight_norm=None)
    x = torch.randn(2, 4, 1, 12)
    torch.testing.assert_close(head(x.roll(3, dims=3)), head(x).roll(3, dims=1))
    torch.testing.assert_close(head(x.view(2, 4, 3, 4)), head(x))
    with pytest.raises(IncompatibleError, match="a kernel of 9 goes round more than once on 3 tokens"):
        TokenConvHead(4, (1, 3))


def test_only_the_convolutions_of_the_token_head_are_normalised() -> None:
    head = TokenConvHead(4, (1, 12), 3)
    raw = {name for name in head.state_dict() if name.endswith("original")}
    assert raw == {f"{conv}.parametrizations.weight.original" for conv in ("conv1", "conv2", "out")}


def test_bfloat16_changes_images_by_less_than_a_grey_level() -> None:
    torch.manual_seed(0)
    size = {"channel_base": 1024, "channel_max": 64, "num_pairs": 2}
    generator = parse(stylegan_t.generator(32, cond_dim=8, **size), LayeredGenerator).build().eval()
    z, c = torch.randn(4, generator.z_dim), torch.randn(4, 8) / 8**0.5
    with torch.no_grad(), noise_mode("const"):
        exact = generator(z, c)
        with torch.autocast("cpu", torch.bfloat16):
            near = generator(z, c)
    assert (exact - near).abs().mean() < 2 / 255

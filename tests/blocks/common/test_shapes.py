"""Blocks raise errors with the needed and the actual shape instead of broadcasting inputs of another shape."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from blocks.attention.dense import DenseAttention
from blocks.attention.linformer import Linformer
from blocks.attention.shifted_window import ShiftedWindowAttention
from blocks.common import shapes
from blocks.layer.modulated_conv import ModulatedConv
from blocks.layer.pos_embed import PosEmbed
from blocks.layer.residual import Residual
from blocks.layer.styled_attention import StyledAttention
from blocks.layer.upsample_linear import UpsampleLinear
from blocks.mapping.bypass import BypassMapping
from blocks.mapping.mapping import MappingNetwork
from blocks.norm.adain import AdaIN
from blocks.norm.layer_scale import LayerScale
from blocks.norm.sln import SelfModulatedLayerNorm
from registry import catalogue
from registry.testing.cases import Case, cases

ANY_CHANNELS = {"pixel-norm", "downsample", "upsample"}
LAST = [
    next(iter(cases(entry.block)))
    for entry in catalogue.entries()
    if entry.block.family_name in {"attention", "norm", "feed-forward"} and entry.block.kind != "identity"
]
FIRST = [next(iter(cases(entry.block))) for entry in catalogue.entries() if entry.block.family_name == "layer"]


def refusal(call: object, *inputs: Tensor | None) -> str:
    with pytest.raises(ValueError, match=r"should have shape|is missing|takes no c|built for maps") as caught:
        call(*inputs)
    return str(caught.value)


@pytest.mark.parametrize("case", LAST, ids=str)
def test_blocks_on_nhwc_maps_refuse_tokens_other_layouts_and_other_channels(case: Case) -> None:
    module = case.build()
    x, *rest = case.inputs(module).values()
    kind, channels = case.block.kind, "C" if case.block.kind in ANY_CHANNELS else x.shape[3]
    assert refusal(module.block, x.flatten(1, 2), *rest) == (
        f"{kind}: x should have shape [B, H, W, {channels}], not [2, 64, 16]; "
        "reshape tokens [B, N, C] to a map with x.unflatten(1, (height, width))"
    )
    refusal(module.block, x[0, 0], *rest)
    if kind not in ANY_CHANNELS:
        assert refusal(module.block, x[..., :-1], *rest).endswith("not [2, 8, 8, 15]")
        assert "x.permute(0, 2, 3, 1)" in refusal(module.block, x.permute(0, 3, 1, 2), *rest)


@pytest.mark.parametrize("case", FIRST, ids=str)
def test_layers_refuse_tokens_other_layouts_and_other_channels(case: Case) -> None:
    module = case.build()
    x, *rest = case.inputs(module).values()
    kind, channels = case.block.kind, "C" if case.block.kind in ANY_CHANNELS else x.shape[1]
    assert refusal(module.block, x.flatten(2).mT, *rest) == (
        f"{kind}: x should have shape [B, {channels}, H, W], not [2, 64, 16]; "
        "reshape tokens [B, N, C] to a map with x.mT.unflatten(2, (height, width))"
    )
    refusal(module.block, x[0, 0], *rest)
    if kind not in ANY_CHANNELS:
        assert refusal(module.block, x[:, :-1], *rest).endswith("not [2, 15, 8, 8]")
        assert "x.permute(0, 3, 1, 2)" in refusal(module.block, x.permute(0, 2, 3, 1), *rest)


@pytest.mark.parametrize("norm", [SelfModulatedLayerNorm(8, 4), AdaIN(8, 4)], ids=["sln", "adain"])
def test_styled_norms_need_one_style_per_sample(norm: nn.Module) -> None:
    x, w = torch.randn(3, 5, 7, 8), torch.randn(3, 4)
    assert norm(x, w).shape == x.shape
    assert "w is missing; pass a style vector for each sample, [B, 4]" in refusal(norm, x)
    for wrong in (w[:, None], w[:, :3], w[:1], w[0]):
        assert f"w should have shape [3, 4], not {list(wrong.shape)}" in refusal(norm, x, wrong)


@pytest.mark.parametrize(
    ("layer", "num_styles"),
    [(ModulatedConv(8, 4, 5), 1), (StyledAttention(8, 4, 5, num_heads=2), 1), (Residual(8, 4, 5, norm="adain"), 2)],
    ids=["modulated-conv", "styled-attention", "residual"],
)
def test_styled_layers_need_enough_styles_per_sample(layer: nn.Module, num_styles: int) -> None:
    x, ws = torch.randn(3, 8, 4, 4), torch.randn(3, num_styles, 5)
    assert layer(x, ws).shape == x.shape
    assert f"ws is missing; pass style vectors, [B, {num_styles}, 5]" in refusal(layer, x)
    for wrong in (ws[:, 0], ws[:, :0], ws[..., :4], ws[:1]):
        assert f"ws should have shape [3, {num_styles}, 5], not {list(wrong.shape)}" in refusal(layer, x, wrong)


@pytest.mark.parametrize("kind", [MappingNetwork, BypassMapping])
def test_mappings_refuse_conditions_that_they_were_not_built_for(kind: type) -> None:
    z, c = torch.randn(3, 6), torch.randn(3, 5)
    conditional, plain = kind(6, 9, 2, 5), kind(6, 9, 2)
    assert conditional(z, c).shape == plain(z).shape
    assert "built without a condition (cond_dim 0), so it takes no c; leave c out" in refusal(plain, z, c)
    assert "c is missing; pass a condition for each sample, [B, 5]" in refusal(conditional, z)
    for wrong in (c[:, :4], c[:1], c[:, None]):
        assert f"c should have shape [3, 5], not {list(wrong.shape)}" in refusal(conditional, z, wrong)
    assert "z should have shape [B, 6], not [3, 5]" in refusal(plain, c)


def test_layer_scale_needs_its_channels() -> None:
    assert "LayerScale: x should have shape [..., 8], not [3, 1]" in refusal(LayerScale(8), torch.ones(3, 1))


@pytest.mark.parametrize(
    ("block", "x", "built"),
    [
        (Linformer(8, (4, 5), num_heads=2, rank=3), torch.randn(2, 5, 4, 8), "4x5"),
        (ShiftedWindowAttention(8, (8, 9), num_heads=2, window_size=6), torch.randn(2, 5, 7, 8), "8x9"),
        (DenseAttention(8, (4, 4), num_heads=2, relative_position_bias=True), torch.randn(2, 3, 6, 8), "4x4"),
        (PosEmbed(8, (1, 4)), torch.randn(2, 8, 4, 4), "1x4"),
        (UpsampleLinear(8, (4, 4)), torch.randn(2, 8, 2, 2), "4x4"),
    ],
    ids=["linformer", "shifted-window", "dense", "pos-embed", "upsample-linear"],
)
def test_blocks_of_one_resolution_name_it_and_the_maps(block: nn.Module, x: Tensor, built: str) -> None:
    height, width = x.shape[2:] if isinstance(block, (PosEmbed, UpsampleLinear)) else x.shape[1:3]
    message = refusal(block, x)
    assert f"built for maps of {built} pixels, not {height}x{width}" in message


def test_styled_attention_with_a_rank_has_one_resolution() -> None:
    layer = StyledAttention(8, (4, 4), 5, num_heads=2, rank=3)
    assert "built for maps of 4x4 pixels, not 2x4" in refusal(layer, torch.randn(2, 8, 2, 4), torch.randn(2, 1, 5))


def test_constant_noise_is_not_broadcast_to_other_maps() -> None:
    layer = ModulatedConv(8, (4, 4), 5).eval()
    ws = torch.randn(2, 1, 5)
    assert "Noise: built for maps of 4x4 pixels, not 1x4" in refusal(layer, torch.randn(2, 8, 1, 4), ws)
    assert layer.train()(torch.randn(2, 8, 1, 4), ws).shape == (2, 8, 1, 4)


def test_checks_work_on_the_meta_device_and_in_one_compiled_graph() -> None:
    norm = SelfModulatedLayerNorm(8, 4)
    x, w = torch.randn(3, 5, 7, 8), torch.randn(3, 4)
    torch.testing.assert_close(torch.compile(norm, backend="eager", fullgraph=True)(x, w), norm(x, w))
    on_meta = norm.to("meta")
    assert on_meta(x.to("meta"), w.to("meta")).shape == x.shape
    refusal(on_meta, x.to("meta").flatten(1, 2), w.to("meta"))


def test_check_resolution_accepts_its_own() -> None:
    shapes.check_resolution(nn.Identity(), 4, 5, (4, 5))
    assert "Identity: built for maps of 4x5 pixels, not 5x4" in refusal(
        shapes.check_resolution, nn.Identity(), 5, 4, (4, 5)
    )

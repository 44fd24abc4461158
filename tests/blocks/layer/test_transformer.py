"""The transformer block: what its options and slots change."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from blocks.families import to_nchw, to_nhwc
from blocks.layer.transformer import Transformer
from blocks.norm.adain import AdaIN
from blocks.norm.pixel_norm import PixelNorm
from registry import IncompatibleError

DENSE = {"kind": "dense", "num_heads": 2}


def picture(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("residual", ["raw", "normalised"])
def test_the_residual_carries_what_came_in_or_what_the_norm_made_of_it(residual):
    block = Transformer(8, (3, 4), attention=DENSE, residual=residual)
    x = to_nhwc(picture(2, 8, 3, 4))
    normal = block.norm1(x)
    x = (x if residual == "raw" else normal) + block.attn(normal)
    normal = block.norm2(x)
    x = (x if residual == "raw" else normal) + block.mlp(normal)
    torch.testing.assert_close(block(picture(2, 8, 3, 4)), to_nchw(x))


@pytest.mark.parametrize(("norm", "num_styles"), [("adain", 1), ("sln", 1), ("layer-norm", 0), ("pixel-norm", 0)])
def test_it_uses_a_style_if_its_norm_does(norm, num_styles):
    block = Transformer(8, (3, 4), 6, attention=DENSE, norm=norm)
    assert block.num_styles == num_styles
    x = picture(2, 8, 3, 4)
    one, other = (block(x, ws) for ws in picture(2, 2, 1, 6))
    assert torch.equal(one, other) != num_styles


def test_without_styles_in_reach_a_styled_norm_is_a_misfit():
    with pytest.raises(IncompatibleError, match=r"norm +sln needs style_dim"):
        Transformer(8, (3, 4), attention=DENSE, norm="sln")


def test_layer_scale_zero_leaves_the_input_alone():
    x = picture(2, 8, 3, 4)
    assert torch.equal(Transformer(8, (3, 4), attention=DENSE, layer_scale=0.0)(x), x)


def test_a_block_of_attention_alone_has_one_norm():
    block = Transformer(8, (3, 4), attention=DENSE, feed_forward=None)
    assert {name.partition(".")[0] for name, _ in block.named_parameters()} == {"norm1", "attn"}


def test_a_weight_norm_reaches_every_linear_map_but_no_norm():
    block = Transformer(8, (3, 4), 6, attention=DENSE, norm="sln", weight_norm="spectral-norm")
    weights = {name for name, _ in block.named_parameters() if name.endswith("weight.original")}
    assert {name.removesuffix(".parametrizations.weight.original") for name in weights} == {
        "attn.qkv",
        "attn.proj",
        "mlp.fc1",
        "mlp.fc2",
    }


def test_channels_last_memory_stays_so():
    block = Transformer(8, (3, 4), attention=DENSE)
    y = block(picture(2, 8, 3, 4).to(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("norm", [AdaIN(8, 6), PixelNorm()], ids=["adain", "pixel-norm"])
def test_statistics_survive_half_precision(norm):
    x = 300 + 100 * picture(2, 9, 9, 8)  # squares exceed float16
    w = picture(2, 6)
    half = norm.half()(x.half(), w.half())
    torch.testing.assert_close(half.float(), norm.float()(x.half().float(), w.half().float()), rtol=1e-2, atol=1e-2)


def test_linear_maps_start_as_vision_transformers_do():
    block = Transformer(64, 8)
    for part in block.modules():
        if isinstance(part, nn.Linear):
            assert part.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert not part.bias.any()

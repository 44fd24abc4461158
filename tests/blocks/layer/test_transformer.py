"""The transformer layer: effect of each option and slot."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from blocks.families import to_nchw, to_nhwc
from blocks.layer.transformer import Transformer
from registry import IncompatibleError

DENSE = {"kind": "dense", "num_heads": 2}


def features(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("residual", ["raw", "normalised"])
def test_the_shortcut_is_the_input_or_the_output_of_the_norm(residual):
    block = Transformer(8, (3, 4), attention=DENSE, residual=residual)
    x = to_nhwc(features(2, 8, 3, 4))
    normalized = block.norm1(x)
    x = (x if residual == "raw" else normalized) + block.attn(normalized)
    normalized = block.norm2(x)
    x = (x if residual == "raw" else normalized) + block.mlp(normalized)
    torch.testing.assert_close(block(features(2, 8, 3, 4)), to_nchw(x))


@pytest.mark.parametrize(("norm", "num_styles"), [("adain", 1), ("sln", 1), ("layer-norm", 0), ("pixel-norm", 0)])
def test_a_styled_norm_needs_one_style(norm, num_styles):
    block = Transformer(8, (3, 4), 6, attention=DENSE, norm=norm)
    assert block.num_styles == num_styles
    x = features(2, 8, 3, 4)
    one, other = (block(x, ws) for ws in features(2, 2, 1, 6))
    assert torch.equal(one, other) != num_styles


def test_a_styled_norm_without_style_dim_is_incompatible():
    with pytest.raises(IncompatibleError, match=r"norm +sln needs style vectors"):
        Transformer(8, (3, 4), attention=DENSE, norm="sln")


def test_layer_scale_0_gives_the_identity():
    x = features(2, 8, 3, 4)
    assert torch.equal(Transformer(8, (3, 4), attention=DENSE, layer_scale=0.0)(x), x)


def test_without_feed_forward_there_is_one_norm():
    block = Transformer(8, (3, 4), attention=DENSE, feed_forward=None)
    assert {name.partition(".")[0] for name, _ in block.named_parameters()} == {"norm1", "attn"}


def test_weight_norm_applies_to_linear_layers_but_not_to_norms():
    block = Transformer(8, (3, 4), 6, attention=DENSE, norm="sln", weight_norm="spectral-norm")
    weights = {name for name, _ in block.named_parameters() if name.endswith("weight.original")}
    assert {name.removesuffix(".parametrizations.weight.original") for name in weights} == {
        "attn.qkv",
        "attn.proj",
        "mlp.fc1",
        "mlp.fc2",
    }


def test_channels_last_memory_format_is_preserved():
    block = Transformer(8, (3, 4), attention=DENSE)
    y = block(features(2, 8, 3, 4).to(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_linear_layers_are_initialised_as_in_vision_transformers():
    block = Transformer(64, 8)
    for module in block.modules():
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert not module.bias.any()


def test_a_shared_norm_is_used_in_both_branches():
    options = {"attention": {"kind": "dense", "num_heads": 2}, "norm": "sln", "feed_forward": "identity"}
    block = Transformer(8, (3, 4), 8, shared_norm=True, **options).double()
    x, ws = features(2, 8, 3, 4).double(), features(2, 1, 8).double()
    h = to_nhwc(x)
    middle = h + block.attn(block.norm1(h, ws[:, 0]))
    torch.testing.assert_close(to_nhwc(block(x, ws)), middle + block.norm1(middle, ws[:, 0]))
    assert not any(name.startswith("norm2") for name in block.state_dict())

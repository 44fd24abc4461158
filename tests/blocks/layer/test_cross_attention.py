"""Cross-attention to the tokens of a caption, against the formula, and its mask."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from blocks.layer.text.cross_attention import CrossAttention
from blocks.mapping.text_mapping import TextMapping
from registry import IncompatibleError


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(dim: int = 6, token_dim: int = 5) -> CrossAttention:
    torch.manual_seed(0)
    block = CrossAttention(dim, token_dim, num_heads=2).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    return block


def test_each_pixel_attends_to_all_tokens() -> None:
    block, x, tokens = layer(), normal(1, 6, 3, 4), normal(1, 7, 5, seed=1)
    pixels = x[0].flatten(1).mT
    q = block.query(F.layer_norm(pixels, (6,), block.norm.weight, block.norm.bias, eps=block.norm.eps))
    k, v = block.key_value(F.layer_norm(tokens[0], (5,))).chunk(2, dim=1)
    heads = [(q[:, part] @ k[:, part].mT / 3**0.5).softmax(1) @ v[:, part] for part in (slice(0, 3), slice(3, 6))]
    expected = pixels + block.proj(torch.cat(heads, dim=1))
    torch.testing.assert_close(block(x, tokens)[0].flatten(1).mT, expected)


def test_zero_vectors_are_masked() -> None:
    block, x, tokens = layer(), normal(2, 6, 3, 4), normal(2, 4, 5, seed=1)
    padded = torch.cat([tokens, tokens.new_zeros(2, 3, 5)], dim=1)
    torch.testing.assert_close(block(x, padded), block(x, tokens))
    assert not torch.allclose(block(x, tokens[:, :3]), block(x, tokens))


def test_a_caption_without_tokens_has_no_effect_but_the_bias() -> None:
    block, x = layer(), normal(2, 6, 3, 4)
    torch.testing.assert_close(block(x, x.new_zeros(2, 4, 5)), x + block.proj.bias[:, None, None])


def test_the_mapping_keeps_the_mask_and_truncates_styles_alone() -> None:
    mapping = TextMapping(8, 12, 5, 15, 2, num_heads=2).eval()
    z, c = torch.randn(3, 8), torch.randn(3, 15)
    c[1, 10:] = 0  # the second token of the second caption
    ws, truncated = mapping(z, c), mapping(z, c, truncation_psi=0.0)
    assert ws.shape == (3, 5, 12)
    assert (ws[1, 4] == 0).all()
    assert (ws[[0, 1, 2, 0], [3, 3, 3, 4]] != 0).any(dim=1).all()
    assert torch.equal(ws[:, 3:], truncated[:, 3:])
    assert torch.equal(truncated[0, :3], truncated[1, :3])


def test_a_condition_without_tokens_is_refused() -> None:
    with pytest.raises(IncompatibleError, match="the condition has no tokens; set tokens: true"):
        TextMapping(8, 12, 3, 5)

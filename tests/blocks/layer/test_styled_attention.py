"""Styled attention against its formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blocks.layer.styled_attention import StyledAttention
from registry import IncompatibleError, recording, second_order


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def styled(rank: int | None = None) -> StyledAttention:
    torch.manual_seed(0)
    block = StyledAttention(12, (3, 5), 7, dim=8, num_heads=3, rank=rank, clamp=0.7).double().eval()
    torch.nn.init.constant_(block.noise.strength, 0.3)
    torch.nn.init.normal_(block.bias)
    return block


def length(weight: Tensor, style: Tensor) -> Tensor:
    """Length of each row of W diag(style)."""
    return ((weight * style).square().sum(dim=1, keepdim=True) + 1e-8).sqrt()


@pytest.mark.parametrize("rank", [None, 4])
def test_weights_are_modulated_for_each_sample(rank: int | None) -> None:
    block, x, ws = styled(rank), normal(2, 12, 3, 5), normal(2, 1, 7, seed=1)
    actual = block(x, ws)
    for sample in range(2):
        s, t = block.affine(ws[sample, 0]).chunk(2)
        tokens = F.layer_norm(x[sample].flatten(1).mT * s, (12,))
        rows = [weight / length(weight, s) for weight in block.qkv.chunk(3)]
        q, k, v = (tokens @ row.mT for row in rows)
        v = v * t
        values = v
        if block.proj_kv is not None:
            k, v = block.proj_kv.weight @ k, block.proj_kv.weight @ v
        heads = []
        for head in range(3):
            part = slice(4 * head, 4 * head + 4)
            heads.append((q[:, part] @ k[:, part].mT / 2).softmax(dim=1) @ v[:, part])
        y = torch.cat(heads, dim=1) @ (block.proj / length(block.proj, t)).mT
        y = y + values @ (block.residual / length(block.residual, t)).mT
        y = y + 0.3 * block.noise.const.flatten()[:, None]
        y = F.leaky_relu(y + block.bias, 0.2).clamp(-0.7, 0.7)
        torch.testing.assert_close(actual[sample], y.mT.unflatten(1, (3, 5)))


def test_samples_are_independent_and_depend_on_their_styles() -> None:
    block, x, ws = styled(), normal(3, 12, 3, 5), normal(3, 1, 7, seed=1)
    together = block(x, ws)
    torch.testing.assert_close(together[1:2], block(x[1:2], ws[1:2]))
    assert not torch.allclose(block(x, ws.flip(0)), together)


def test_attention_is_computed_by_the_op() -> None:
    block, x, ws = styled(), normal(2, 12, 3, 5), normal(2, 1, 7)
    with recording() as fused:
        block(x, ws)
    with recording() as plain, second_order():
        block(x, ws)
    assert ("attention", "sdpa") in fused
    assert ("attention", "reference") in plain


def test_heads_have_to_divide_the_channels() -> None:
    with pytest.raises(IncompatibleError, match=r"num_heads +12 channels do not split evenly over 5 heads"):
        StyledAttention(12, 4, 7, num_heads=5)


def test_attention_maps_are_logits_of_the_mean_query() -> None:
    block, x, ws = styled(), normal(2, 12, 3, 5), normal(2, 1, 7, seed=1)
    s, t = block.affine(ws[:, 0]).chunk(2, dim=-1)
    q, k, _ = block.queries_keys_values(x, s, t).chunk(3, dim=-1)
    heads = [slice(4 * head, 4 * head + 4) for head in range(3)]
    expected = [(q[..., part].mean(1, keepdim=True) @ k[..., part].mT / 2)[:, 0] for part in heads]
    actual = block.attention_map(x, ws)
    torch.testing.assert_close(actual, torch.stack(expected, dim=1).unflatten(2, (3, 5)))

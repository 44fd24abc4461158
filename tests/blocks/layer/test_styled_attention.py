"""Attention style injection against its formulas, Linformer, and position embeddings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blocks.attention.dense import DenseAttention
from blocks.attention.linformer import Linformer
from blocks.layer.pos_embed import PosEmbed
from blocks.layer.styled_attention import StyledAttention
from registry import IncompatibleError, recording, second_order


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def styled(rank: int | None = None) -> StyledAttention:
    torch.manual_seed(0)
    block = StyledAttention(12, (3, 5), 7, dim=8, num_heads=3, rank=rank, clamp=0.7).double().eval()
    torch.nn.init.constant_(block.noise.strength, 0.3)
    torch.nn.init.normal_(block.bias)
    return block


def length(weight: Tensor, style: Tensor) -> Tensor:
    """Of each row of W diag(style)."""
    return ((weight * style).square().sum(dim=1, keepdim=True) + 1e-8).sqrt()


@pytest.mark.parametrize("rank", [None, 4])
def test_a_layer_is_attention_by_weights_of_each_sample(rank: int | None) -> None:
    block, x, ws = styled(rank), random(2, 12, 3, 5), random(2, 1, 7, seed=1)
    found = block(x, ws)
    for sample in range(2):
        s, t = block.affine(ws[sample, 0]).chunk(2)
        tokens = F.layer_norm(x[sample].flatten(1).mT * s, (12,))
        rows = [weight / length(weight, s) for weight in block.qkv.chunk(3)]
        q, k, v = (tokens @ row.mT for row in rows)
        v = v * t
        values = v
        if block.sums is not None:
            k, v = block.sums.weight @ k, block.sums.weight @ v
        heads = []
        for head in range(3):
            part = slice(4 * head, 4 * head + 4)
            heads.append((q[:, part] @ k[:, part].mT / 2).softmax(dim=1) @ v[:, part])
        y = torch.cat(heads, dim=1) @ (block.proj / length(block.proj, t)).mT
        y = y + values @ (block.residual / length(block.residual, t)).mT
        y = y + 0.3 * block.noise.const.flatten()[:, None]
        y = F.leaky_relu(y + block.bias, 0.2).clamp(-0.7, 0.7)
        torch.testing.assert_close(found[sample], y.mT.unflatten(1, (3, 5)))


def test_samples_do_not_see_each_other_and_styles_matter() -> None:
    block, x, ws = styled(), random(3, 12, 3, 5), random(3, 1, 7, seed=1)
    together = block(x, ws)
    torch.testing.assert_close(together[1:2], block(x[1:2], ws[1:2]))
    assert not torch.allclose(block(x, ws.flip(0)), together)


def test_the_attention_inside_is_the_op() -> None:
    block, x, ws = styled(), random(2, 12, 3, 5), random(2, 1, 7)
    with recording() as fused:
        block(x, ws)
    with recording() as plain, second_order():
        block(x, ws)
    assert ("attention", "sdpa") in fused
    assert ("attention", "reference") in plain


def test_heads_that_do_not_divide_the_channels_are_told() -> None:
    with pytest.raises(IncompatibleError, match=r"num_heads +12 channels do not split evenly over 5 heads"):
        StyledAttention(12, 4, 7, num_heads=5)
    with pytest.raises(IncompatibleError, match="12 channels do not split evenly over 5 heads"):
        Linformer(12, 4, num_heads=5)


def test_linformer_that_sums_nothing_up_is_dense_attention() -> None:
    dense = DenseAttention(8, (3, 4), num_heads=2).double()
    short = Linformer(8, (3, 4), num_heads=2, rank=12).double()
    short.load_state_dict(dense.state_dict(), strict=False)
    with torch.no_grad():
        short.sum_k.weight.copy_(torch.eye(12))
    x = random(2, 3, 4, 8)
    torch.testing.assert_close(short(x), dense(x))
    torch.testing.assert_close(short.attention_map(x), dense.attention_map(x))


def test_linformer_attends_to_its_sums() -> None:
    block, x = Linformer(8, (3, 4), num_heads=2, rank=5, share_kv=False).double(), random(2, 3, 4, 8)
    assert block.sum_v is not None
    q, k, v = block.qkv(x).flatten(1, 2).chunk(3, dim=-1)
    k, v = block.sum_k.weight @ k, block.sum_v.weight @ v
    heads = [(q[..., part] @ k[..., part].mT / 2).softmax(dim=-1) @ v[..., part] for part in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(block(x), block.proj(torch.cat(heads, dim=-1)).unflatten(1, (3, 4)))


def test_the_picture_of_attention_is_the_mean_query_on_each_key() -> None:
    block, x, ws = styled(), random(2, 12, 3, 5), random(2, 1, 7, seed=1)
    s, t = block.affine(ws[:, 0]).chunk(2, dim=-1)
    q, k, _ = block.queries_keys_values(x, s, t).chunk(3, dim=-1)
    heads = [slice(4 * head, 4 * head + 4) for head in range(3)]
    expected = [(q[..., part].mean(1, keepdim=True) @ k[..., part].mT / 2)[:, 0] for part in heads]
    found = block.attention_map(x, ws)
    torch.testing.assert_close(found, torch.stack(expected, dim=1).unflatten(2, (3, 5)))


def test_positions_start_where_told() -> None:
    torch.manual_seed(0)
    x = random(2, 64, 9, 7)
    assert torch.equal(PosEmbed(64, (9, 7)).double()(x), x)
    added = PosEmbed(64, (9, 7), init_std=0.02).double()(x) - x
    torch.testing.assert_close(added[0], added[1])
    assert added[0].std().item() == pytest.approx(0.02, rel=0.1)

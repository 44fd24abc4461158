"""Linformer against dense attention and its formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blocks.attention.dense import DenseAttention
from blocks.attention.linformer import Linformer
from registry import IncompatibleError


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_identity_projection_gives_dense_attention() -> None:
    dense = DenseAttention(8, (3, 4), num_heads=2).double()
    linformer = Linformer(8, (3, 4), num_heads=2, rank=12).double()
    linformer.load_state_dict(dense.state_dict(), strict=False)
    with torch.no_grad():
        linformer.proj_k.weight.copy_(torch.eye(12))
    x = normal(2, 3, 4, 8)
    torch.testing.assert_close(linformer(x), dense(x))
    torch.testing.assert_close(linformer.attention_map(x), dense.attention_map(x))


def test_keys_and_values_are_projected_to_rank_tokens() -> None:
    block, x = Linformer(8, (3, 4), num_heads=2, rank=5, share_kv=False).double(), normal(2, 3, 4, 8)
    assert block.proj_v is not None
    q, k, v = block.qkv(x).flatten(1, 2).chunk(3, dim=-1)
    k, v = block.proj_k.weight @ k, block.proj_v.weight @ v
    heads = [(q[..., part] @ k[..., part].mT / 2).softmax(dim=-1) @ v[..., part] for part in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(block(x), block.proj(torch.cat(heads, dim=-1)).unflatten(1, (3, 4)))


def test_heads_have_to_divide_the_channels() -> None:
    with pytest.raises(IncompatibleError, match=r"num_heads +12 channels do not split evenly over 5 heads"):
        Linformer(12, 4, num_heads=5)

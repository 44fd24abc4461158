"""Styled attention against its formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blocks.layer.styled_attention import StyledAttention
from registry import IncompatibleError, recording, second_order


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def styled(rank: int | None = None, **options: Any) -> StyledAttention:
    torch.manual_seed(0)
    block = StyledAttention(12, (3, 5), 7, dim=8, num_heads=3, rank=rank, clamp=0.7, **options).double().eval()
    torch.nn.init.constant_(block.noise.strength, 0.3)
    torch.nn.init.normal_(block.bias)
    return block


def length(weight: Tensor, style: Tensor) -> Tensor:
    """Length of each row of W diag(style)."""
    return ((weight * style).square().sum(dim=1, keepdim=True) + 1e-8).sqrt()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rank": 4},
        {"layer_norm": "post"},
        {"layer_norm": None},
        {"residual": "raw"},
        {"residual": None},
        {"feed_forward": "mlp"},
        {"layer_norm": "post", "residual": "raw", "feed_forward": "mlp", "rank": 4},
    ],
    ids=str,
)
def test_weights_are_modulated_for_each_sample(options: dict[str, Any]) -> None:
    block, x, ws = styled(**options), normal(2, 12, 3, 5), normal(2, 1, 7, seed=1)
    actual = block(x, ws)
    for sample in range(2):
        s, t = block.affine(ws[sample, 0]).chunk(2)
        pixels = x[sample].flatten(1).mT
        tokens = F.layer_norm(pixels * s, (12,)) if options.get("layer_norm", "pre") == "pre" else pixels * s
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
        if options.get("residual", "values") == "values":
            y = y + values @ (block.residual / length(block.residual, t)).mT
        elif options["residual"] == "raw":
            y = y + pixels @ block.residual.mT
        if options.get("layer_norm") == "post":
            y = F.layer_norm(y, (8,))
        y = y + 0.3 * block.noise.const.flatten()[:, None]
        y = F.leaky_relu(y + block.bias, 0.2).clamp(-0.7, 0.7)
        if block.feed_forward is not None:
            hidden, out = block.feed_forward.fc1, block.feed_forward.fc2
            y = y + out(F.gelu(hidden(F.layer_norm(y, (8,)))))
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


def test_without_a_residual_connection_there_is_no_weight_for_it() -> None:
    names = dict(styled().named_parameters()).keys()
    assert names - dict(styled(residual=None).named_parameters()).keys() == {"residual"}
    added = dict(styled(feed_forward="mlp").named_parameters()).keys() - names
    assert {name.partition(".")[0] for name in added} == {"feed_forward"}

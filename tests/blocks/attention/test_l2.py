"""L2 attention against its definition, its second derivatives, attention maps and errors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blocks.attention.l2 import L2Attention
from blocks.ops.l2_attention import l2_attention
from registry import IncompatibleError, recording, second_order

KERNELS = pytest.mark.parametrize("kernel", ["auto", *(kernel.name for kernel in l2_attention.kernels())])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logits_of(block: L2Attention, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of each pair of tokens, and values, by definition."""
    q, k, v = block.heads(x)
    distance = (q[..., :, None, :] - k[..., None, :, :]).square().sum(-1)
    if block.key_norms_from_queries:
        means = q.square().mean(-1)
        distance = means[..., :, None] + means[..., None, :] - 2 * q @ k.mT
    logits = block.sign * block.scale * (distance if block.squared else distance.sqrt())
    return logits if block.temperature is None else logits * block.temperature, v


@KERNELS
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"squared": False, "sign": 1, "qkv_bias": True},
        {"tied": False, "head_dim": 3, "gain": 0.5, "scale": 1.0},
        {"tied": False, "sign": 1, "key_norms": "mean-of-queries", "temperature": True, "equalized": True},
        {"temperature": True},
    ],
    ids=str,
)
def test_every_kernel_agrees_with_the_definition(options, kernel):
    torch.manual_seed(0)
    height, width = (16, 33) if kernel == "augmented" else (4, 5)
    block, x = L2Attention(12, num_heads=2, kernel=kernel, **options).double(), normal(1, height, width, 12)
    if block.temperature is not None:
        torch.nn.init.constant_(block.temperature, 0.7)
    logits, v = logits_of(block, x)
    expected = block.proj((logits.softmax(-1) @ v).transpose(1, 2).flatten(-2) * block.gain).unflatten(
        1, (height, width)
    )
    with torch.no_grad():
        q, k, _ = block.heads(x)
        selected = next((each for each in l2_attention.kernels() if each.name == kernel), l2_attention.reference)
        if kernel != "auto" and (reasons := selected.unsupported(q, k, v, squared=block.squared)):
            pytest.skip("; ".join(reasons))
        torch.testing.assert_close(block(x), expected)


def test_second_order_mode_selects_a_twice_differentiable_kernel():
    block, x = L2Attention(4, num_heads=2).double(), normal(1, 2, 3, 4).requires_grad_()
    with second_order(), recording() as ran:
        assert torch.autograd.gradgradcheck(block, x)
    assert set(ran) == {("l2_attention", "reference")}


def test_incompatible_options_are_reported():
    for option in ({"temperature": True}, {"key_norms": "mean-of-queries"}):
        with pytest.raises(IncompatibleError, match=f"{next(iter(option))} +needs squared distances"):
            L2Attention(8, squared=False, **option)
    with pytest.raises(IncompatibleError, match="9 channels do not split evenly over 2 heads"):
        L2Attention(9, num_heads=2)


def test_attention_maps_are_logits_of_the_mean_query():
    block, x = L2Attention(8, num_heads=2).double(), normal(2, 3, 4, 8)
    q, k, _ = block.heads(x)
    expected = -(q.mean(-2, keepdim=True) - k).square().sum(-1) / 2
    torch.testing.assert_close(block.attention_map(x).flatten(2), expected)

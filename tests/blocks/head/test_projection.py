"""Conditions of heads: the projection, and errors for missing, unexpected and wrong conditions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from blocks.families import Head
from blocks.head.class_token import ClassTokenHead
from blocks.head.contrad import ContraDHead
from blocks.head.linear import LinearHead
from blocks.head.patch import PatchHead
from blocks.head.projection import Projection
from blocks.head.token_conv import TokenConvHead
from tests.tensors import normal

HEADS: dict[type[Head], dict[str, Any]] = {
    ClassTokenHead: {},
    ContraDHead: {"mapping": None},
    LinearHead: {"mapping": None},
    PatchHead: {},
    TokenConvHead: {"norm": {"kind": "group-norm", "num_groups": 1}},
}


def build(kind: type[Head], cond_dim: int) -> Head:
    head: Head = kind.Spec(**HEADS[kind]).build(dim=6, resolution=(1, 7), cond_dim=cond_dim)
    return head


def test_it_is_a_scalar_product_over_the_root_of_the_dimension() -> None:
    torch.manual_seed(0)
    projection, features, c = Projection(6, 5).double(), normal(4, 3, 6), normal(4, 5, seed=1)
    embedded = c @ projection.embed.weight.T / math.sqrt(5)
    torch.testing.assert_close(projection(features, c), torch.einsum("bnd,bd->bn", features, embedded) / math.sqrt(6))


@pytest.mark.parametrize("kind", HEADS, ids=lambda kind: kind.kind)
def test_a_conditional_head_needs_a_condition_of_its_width(kind: type[Head]) -> None:
    head, x = build(kind, 5), torch.randn(2, 6, 1, 7)
    with pytest.raises(ValueError, match=rf"{kind.kind}: c is missing; pass a condition for each sample, \[B, 5\]"):
        head(x)
    with pytest.raises(ValueError, match=rf"{kind.kind}: c should have shape \[2, 5\], not \[2, 4\]"):
        head(x, torch.randn(2, 4))


@pytest.mark.parametrize("kind", HEADS, ids=lambda kind: kind.kind)
def test_an_unconditional_head_refuses_a_condition(kind: type[Head]) -> None:
    head, x = build(kind, 0), torch.randn(2, 6, 1, 7)
    with pytest.raises(ValueError, match=rf"{kind.kind}: built without a condition \(cond_dim 0\), so it takes no c"):
        head(x, torch.randn(2, 5))


@pytest.mark.parametrize("cond_dim", [0, 5])
@pytest.mark.parametrize("kind", HEADS, ids=lambda kind: kind.kind)
def test_an_empty_batch_has_no_logits(kind: type[Head], cond_dim: int) -> None:
    head, c = build(kind, cond_dim), torch.randn(2, cond_dim) if cond_dim else None
    shape = head(torch.randn(2, 6, 1, 7), c).shape
    logits = head(torch.randn(0, 6, 1, 7), None if c is None else c[:0])
    assert logits.shape == (0, *shape[1:])


@pytest.mark.parametrize("kind", HEADS, ids=lambda kind: kind.kind)
def test_features_of_another_shape_are_refused(kind: type[Head]) -> None:
    head = build(kind, 0)
    with pytest.raises(ValueError, match=rf"{kind.kind}: x should have shape \[B, 6, H, W\], not \[2, 5, 1, 7\]"):
        head(torch.randn(2, 5, 1, 7))
    if kind in (ClassTokenHead, ContraDHead, LinearHead):
        with pytest.raises(ValueError, match=rf"{kind.kind}: built for maps of 1x\d pixels, not 4x3"):
            head(torch.randn(2, 6, 4, 3))

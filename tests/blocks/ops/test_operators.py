"""Operators of our own behave as PyTorch's: in eager mode, in traces and under autograd."""

from __future__ import annotations

import pytest
import torch

from blocks.ops.attention.compiled import Compiled as CompiledAttention
from blocks.ops.attention.compiled import compiled as compiled_attention
from blocks.ops.neighborhood_attention.compiled import Compiled, compiled
from blocks.ops.neighborhood_attention.tiled import Tiled, tiled

WINDOW = {"q": (1, 6, 5, 2, 8), "bias": (2, 5, 5), "options": (3, 1, 0.3)}
CALLS = {
    "compiled": (Compiled, compiled, WINDOW),
    "tiled": (Tiled, tiled, WINDOW),
    "attention": (CompiledAttention, compiled_attention, {"q": (1, 2, 9, 32), "options": (0.3,)}),
}


@pytest.mark.parametrize("name", CALLS)
def test_they_pass_the_checks_of_torch_library(name: str) -> None:
    kernel, operator, call = CALLS[name]
    if reason := kernel().unavailable():
        pytest.skip(reason)
    tensors = [torch.randn(call["q"], requires_grad=True) for _ in range(3)]
    tensors += [torch.randn(call["bias"], requires_grad=True)] if "bias" in call else []
    results = torch.library.opcheck(operator, (*tensors, *call["options"]))
    assert set(results.values()) == {"SUCCESS"}


def test_an_operator_without_a_derivative_refuses_a_backward_pass() -> None:
    q, k, v = (torch.randn(WINDOW["q"], requires_grad=True) for _ in range(3))
    (gradient,) = torch.autograd.grad(tiled(q, k, v, None, *WINDOW["options"]).sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="the operator ganblocks::tiled_backward has no derivative"):
        gradient.sum().backward()

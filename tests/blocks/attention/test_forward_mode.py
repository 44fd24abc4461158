"""Derivatives by torch.func: forward-mode of every attention and of the layers that contain it, and per sample."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from registry import catalogue
from registry.testing.cases import Case, cases
from registry.testing.gradient_checks import weighted_sum

KINDS = ("transformer", "styled-attention")
ENTRIES = [
    entry
    for entry in catalogue.entries()
    if entry.block.family_name == "attention" or (entry.block.family_name == "layer" and entry.block.kind in KINDS)
]


@pytest.mark.parametrize("case", [case for entry in ENTRIES for case in cases(entry.block)], ids=str)
def test_the_forward_mode_derivative_agrees_with_the_gradient(case: Case) -> None:
    module = case.build().double().eval()
    inputs = {name: x for name, x in case.inputs(module, dtype=torch.float64).items() if x is not None}
    torch.manual_seed(3)
    directions = tuple(torch.randn_like(x) for x in inputs.values())

    def loss(*tensors: Tensor) -> Tensor:
        return weighted_sum(case.run(module, dict(zip(inputs, tensors, strict=True))))

    _, derivative = torch.func.jvp(loss, tuple(inputs.values()), directions)
    leaves = [x.requires_grad_() for x in inputs.values()]
    gradients = torch.autograd.grad(loss(*leaves), leaves, materialize_grads=True)  # zeros without styles
    slopes = [(gradient * direction).sum() for gradient, direction in zip(gradients, directions, strict=True)]
    torch.testing.assert_close(derivative, torch.stack(slopes).sum())
    assert derivative != 0


@pytest.mark.parametrize("kind", ["hydra-na", "dense"])
def test_gradients_of_each_sample_by_vmap_are_those_of_autograd(kind: str) -> None:
    options = {"dilations": (1, 2), "kernel_sizes": (3,)} if kind == "hydra-na" else {}
    block = catalogue.get("attention", kind).block(16, (8, 8), **options)
    x, weights = torch.randn(3, 8, 8, 16), dict(block.named_parameters())

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return weighted_sum(torch.func.functional_call(block, weights, (x[None],)))

    of_samples = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, x)
    gradients = torch.autograd.grad(loss(weights, x[1]), list(weights.values()))
    for name, gradient in zip(weights, gradients, strict=True):
        torch.testing.assert_close(of_samples[name][1], gradient, rtol=1e-4, atol=1e-5)

"""Brings the power iterations of weight norms to convergence, for weights that no training pass has iterated on.

The moving average of a network's weights is such a case: its buffers u and v are those of the live network, and u . W v
is not the largest singular value of the averaged weight W.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from blocks.families import WeightNorm


@torch.no_grad()
def converge_weight_norms(network: nn.Module) -> None:
    """Let every weight norm in `network` converge for its present weight, in place."""
    for module in network.modules():
        if isinstance(module, ParametrizationList):
            weight = module.original
            for parametrization in module:
                if isinstance(parametrization, WeightNorm):
                    parametrization.converge(weight)
                weight = parametrization(weight)


@contextmanager
def converged_weight_norms(network: nn.Module) -> Iterator[None]:
    """`converge_weight_norms` while this is open; afterwards the buffers of the weight norms are what they were."""
    norms = [module for module in network.modules() if isinstance(module, WeightNorm)]
    before = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    converge_weight_norms(network)
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)

"""Blocks as after training."""

from __future__ import annotations

import torch
from torch import nn


def trained(block: nn.Module) -> nn.Module:
    """The block in float64 with biases that are not zero."""
    torch.manual_seed(0)
    block = block.double()
    with torch.no_grad():
        for name, parameter in block.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return block

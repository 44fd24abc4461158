"""Hanging a weight norm on every weight of a network.

As in spectral normalisation, Miyato et al. 2018, https://arxiv.org/abs/1802.05957: all layers of the discriminator at
once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from blocks.common.equalized import EqualConv2d, EqualLinear

EQUALIZED = (EqualLinear, EqualConv2d)
MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d, *EQUALIZED)


def normalize_weights(module: nn.Module, spec: Any) -> None:
    """Make `spec` a parametrisation of the `weight` of every linear map and convolution in `module`.

    Checkpoints then hold the raw weight as `parametrizations.weight.original`. A weight that has a parametrisation
    already keeps it and gets no other: what a block chose for itself stands.

    A map with equalised learning rate goes on scaling its weight, after the norm. Under a norm that sets the scale,
    such as spectral-norm, it becomes a plain map: the scale moves into the raw weight, or the norm of one would shrink
    to almost none.

    Args:
        module: The network, changed in place.
        spec: A weight norm's spec, built anew for each weight.
    """
    for part in list(module.modules()):
        if not isinstance(part, MAPS) or parametrize.is_parametrized(part, "weight"):
            continue
        if spec.block.sets_scale and isinstance(part, EQUALIZED):
            with torch.no_grad():
                part.weight.mul_(part.scale)
            part.scale = 1.0
        # unsafe: without a trial run, which would move the vectors of a power iteration
        parametrize.register_parametrization(part, "weight", spec.build(weight=part.weight), unsafe=True)

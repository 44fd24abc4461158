"""Adds a weight norm to every weight of a network.

As in spectral normalisation, Miyato et al. 2018, https://arxiv.org/abs/1802.05957: all layers of the discriminator at
once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from blocks.common.equalized import EqualConv2d, EqualLinear
from blocks.families import WeightNorm
from registry.spec_file import validate

EQUALIZED = (EqualLinear, EqualConv2d)
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, *EQUALIZED)


def normalize_weights(module: nn.Module, spec: Any) -> None:
    """Parametrise the `weight` of every linear layer and convolution in `module` with a weight norm.

    Checkpoints then hold the raw weight as `parametrizations.weight.original`. A weight that is parametrised already is
    left as it is: a block's own choice comes first.

    A layer with equalised learning rate still multiplies its weight by its scale, after the norm. Under a norm that
    sets the scale, such as spectral-norm, this would make the weight far too small, so the scale is multiplied into the
    raw weight and set to 1.

    Args:
        module: The network, changed in place.
        spec: A weight norm, of which one is built for each weight: its kind, such as "spectral-norm", a mapping with
            `kind`, or a spec.

    Raises:
        SpecValidationError: It is none.
    """
    spec = validate(spec, WeightNorm)
    for layer in list(module.modules()):
        if not isinstance(layer, LAYERS) or parametrize.is_parametrized(layer, "weight"):
            continue
        if spec.block.sets_scale and isinstance(layer, EQUALIZED):
            with torch.no_grad():
                layer.weight.mul_(layer.scale)
            layer.scale = 1.0
        # unsafe skips the trial call, which would advance the power iteration
        parametrize.register_parametrization(layer, "weight", spec.build(weight=layer.weight), unsafe=True)

"""Weight rules that the checkpoints of several models share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from assemblies.conversion.weight_map import WeightRule, rule
from blocks.common.equalized import leaky_relu

MEAN_STYLE_NOTE = "the file has no mean style, which truncation needs; it was estimated from the mapping network"


def weight_and_bias(target: str, source: str, *, bias: bool = True) -> list[WeightRule]:
    """The weight and, with `bias`, the bias of a layer, both unchanged."""
    return [rule(f"{target}.{name}", f"{source}.{name}") for name in (("weight", "bias") if bias else ("weight",))]


def new_tensor(target: str, create: Callable[[], Tensor]) -> WeightRule:
    """A tensor of ours that the checkpoint has no counterpart of."""
    return WeightRule(target, (), create)


def mean_style_rule(sources: Iterable[str], convert: Callable[..., Tensor]) -> WeightRule:
    """The mean style, computed from the weights and biases of the mapping network's layers."""
    return WeightRule("mapping.w_avg", tuple(sources), convert)


def layer_tensors(pattern: str, layers: Iterable[int]) -> list[str]:
    """The names of weights and biases in the order that `mean_style` takes; `pattern` is such as "style.{}"."""
    return [f"{pattern.format(layer)}.{name}" for layer in layers for name in ("weight", "bias")]


def mean_style(lr_multiplier: float, *tensors: Tensor) -> Float[Tensor, " s"]:
    """The mean style over 10,000 latents, for references that track no mean style.

    Args:
        lr_multiplier: Learning-rate multiplier of the mapping network.
        tensors: Weight and bias of each layer in turn.
    """
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(10_000, tensors[0].shape[1], generator=generator, device="cpu").to(tensors[0])
    w = F.rms_norm(z, z.shape[1:], eps=1e-8)
    with torch.no_grad():
        for weight, bias in zip(tensors[::2], tensors[1::2], strict=True):
            scale = lr_multiplier / math.sqrt(weight.shape[1])
            w = leaky_relu(F.linear(w, weight * scale, bias * lr_multiplier))
    return w.mean(dim=0)


def flatten_kernel(weight: Tensor) -> Tensor:
    """The weight of a 1x1 convolution as that of a linear map; a linear map's weight is returned unchanged."""
    return weight.flatten(1)

"""Improved spectral norm: the authors', the re-implementation's and the paper's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from blocks.common.equalized import EqualLinear
from blocks.weight_norm.apply import normalize_weights
from blocks.weight_norm.improved_spectral import ImprovedSpectralNorm, largest_singular_value
from tests.golden.fixtures import Fixture, Outputs, adapter, without_prefix

ORIGINAL, NORM = "parametrizations.weight.original", "parametrizations.weight.0."


@adapter("vitgan", "off_isn")
def official_isn(fixture: Fixture) -> Outputs:
    config = fixture.config
    tensors = {
        ORIGINAL: fixture.tensors["module.weight_bar"],
        NORM + "u": fixture.tensors["module.weight_u"],
        NORM + "sigma_init": torch.ones((), dtype=fixture.dtype),
    }
    if config.get("spectral_multiplier", True):
        tensors[NORM + "sigma_init"] = fixture.attributes["multiplier"]
    if "module.bias" in fixture.tensors:  # also without `use_bias`
        tensors["bias"] = fixture.tensors["module.bias"]
    layer = EqualLinear(config["in_dim"], config["out_dim"], bias_init=0.0 if "bias" in tensors else None)
    return normalised(layer, tensors, fixture.inputs["x"], power_iterations=config.get("power_iterations", 1))


@adapter("vitgan", "re_isn")
def reimplemented_isn(fixture: Fixture) -> Outputs:
    config = fixture.config
    power_iterations = config.get("power_iterations", 1)
    weight, u = fixture.tensors["module.weight_bar"], fixture.tensors["module.weight_u"]
    if config.get("first_call"):  # the first call takes its own sigma as the initial one, and as a constant
        norm = ImprovedSpectralNorm(weight.detach(), sigma="power-iteration", power_iterations=power_iterations)
        norm.u.copy_(u.detach())
        norm.sigma_init.fill_(1.0)
        sigma_init = (weight / norm(weight)).detach().flatten()[0]
    else:
        sigma_init = fixture.attributes["w_init_sigma"]
    tensors = {ORIGINAL: weight, NORM + "u": u, NORM + "sigma_init": sigma_init}
    if "module.bias" in fixture.tensors:
        tensors["bias"] = fixture.tensors["module.bias"]
    layer = layer_of(fixture, weight, bias="bias" in tensors)
    return normalised(layer, tensors, fixture.inputs["x"], power_iterations=power_iterations)


def layer_of(fixture: Fixture, weight: Tensor, *, bias: bool) -> nn.Module:
    """The linear map or convolution of this weight."""
    if weight.ndim == 2:
        return nn.Linear(weight.shape[1], weight.shape[0], bias=bias)
    stride, padding = fixture.config.get("stride", 1), fixture.config.get("padding", 0)
    return nn.Conv2d(weight.shape[1], weight.shape[0], tuple(weight.shape[2:]), stride, padding, bias=bias)


@adapter("vitgan", "paper_isn")
def paper_isn(fixture: Fixture) -> Outputs:
    tensors = {"bias": fixture.tensors["bias"], ORIGINAL: fixture.tensors["weight"]}
    tensors[NORM + "sigma_init"] = fixture.attributes["sigma_init"]
    layer = nn.Linear(fixture.config["in_dim"], fixture.config["out_dim"])
    outputs = normalised(layer, tensors, fixture.inputs["x"], sigma="exact")
    return outputs | {"sigma": largest_singular_value(tensors[ORIGINAL])}


def normalised(
    layer: nn.Module, tensors: dict[str, Tensor], x: Tensor, *, sigma: str = "power-iteration", **options: Any
) -> Outputs:
    """The output of a layer under improved spectral norm, and its normalised weight."""
    normalize_weights(layer, ImprovedSpectralNorm.Spec(sigma=sigma, **options))
    parametrization = layer.get_submodule("parametrizations.weight")
    state = without_prefix(tensors, "parametrizations.weight.")
    weight = functional_call(parametrization, {name: state[name] for name in parametrization.state_dict()}, ())
    return {"y": functional_call(layer, tensors, x, strict=True), "weight_normalised": weight}

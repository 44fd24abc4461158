"""The parts that ViTGAN's published networks are made of: where the tensors of each come from.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589; the names are those of the authors' code (mlpc-ucsd/ViTGAN).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from assemblies.conversion.weight_map import WeightRule, rule
from blocks.weight_norm.improved_spectral import largest_singular_value
from registry import incompatible
from registry.errors import nearest

Options = Mapping[str, Any]
Estimate = Callable[[Tensor], Tensor]
SIGMAS = ("recorded", "expected", "current")


def block_rules(ours: str, theirs: str, args: Options) -> Iterator[WeightRule]:
    """Where a transformer block's tensors come from."""
    for number in (1, 2):
        yield from sln_rules(f"{ours}.norm{number}", f"{theirs}.layernorm{number}")
    yield from attention_rules(f"{ours}.attn", f"{theirs}.attn", args)
    for mine, name in {"fc1": "ff.net.0", "fc2": "ff.net.3"}.items():
        yield from linear_rules(f"{ours}.mlp.{mine}", f"{theirs}.{name}", args)


def attention_rules(ours: str, theirs: str, args: Options) -> Iterator[WeightRule]:
    """Where an attention's tensors come from."""
    yield rule(f"{ours}.temperature", f"{theirs}.temperature")
    yield from linear_rules(f"{ours}.qkv", f"{theirs}.to_qkv", args, bias=args.get("qkv_bias", True))
    yield from linear_rules(f"{ours}.proj", f"{theirs}.to_out.0", args)


def linear_rules(ours: str, theirs: str, args: Options, *, bias: bool = True) -> Iterator[WeightRule]:
    """A linear map, below improved spectral norm unless `spectral_norm` is false."""
    if not args.get("spectral_norm", True):
        yield from pair(ours, theirs, bias=bias)
        return
    if bias:
        yield rule(f"{ours}.bias", f"{theirs}.module.bias")
    yield from isn_rules(ours, theirs, f"{theirs}.multiplier", args, of_normal)


def isn_rules(ours: str, theirs: str, recorded: str, args: Options, expected: Estimate) -> Iterator[WeightRule]:
    """A weight below improved spectral norm, and the singular value that it had at first."""
    how = args.get("sigma_init", "recorded")
    if how not in SIGMAS:
        raise incompatible("sigma_init", f"{how!r} is no way to it; {nearest(str(how), SIGMAS)}")
    inside, raw = f"{ours}.parametrizations.weight", f"{theirs}.module.weight_bar"
    yield rule(f"{inside}.original", raw)
    yield rule(f"{inside}.0.u", f"{theirs}.module.weight_u")
    if how == "recorded":
        yield rule(f"{inside}.0.sigma_init", recorded)
    else:
        yield rule(f"{inside}.0.sigma_init", raw, make=expected if how == "expected" else of_now)


def of_normal(weight: Tensor) -> Tensor:
    """The largest singular value of weights drawn from N(0,1), on average."""
    return weight.new_tensor(sum(math.sqrt(size) for size in weight.flatten(1).shape))


def of_now(weight: Tensor) -> Tensor:
    return largest_singular_value(weight.detach().flatten(1))


def inr_rules(ours: str, theirs: str, args: Options, size: tuple[int, int]) -> Iterator[WeightRule]:
    """Where the implicit networks' tensors come from."""
    for layer in range(args.get("cips_n_mlp") or 4):
        yield from pair(f"{ours}.mapping.{layer}", f"{theirs}.style.{layer + 1}")
    yield from fourier_rules(f"{ours}.fourier", f"{theirs}.lff.ffm.conv")
    entries = len(args.get("cips_channels") or (512, 512)) - 1
    for layer in range(1 + 2 * entries):
        named = f"{theirs}.layers.{layer - 1}" if layer else f"{theirs}.conv1"
        for part in style_layer_rules(f"{ours}.layers.{layer}", named, size, seed=layer):
            # the noise of a layer stands beside it, and its weight is that of a linear map
            make = part.make if not part.ours.endswith(".weight") or "affine" in part.ours else flat_weight
            yield WeightRule(part.ours.replace(f"layers.{layer}.noise", f"noise.{layer}"), part.theirs, make)
    for entry in range(entries):
        early = f"early_rgb.{2 * entry + 2}" if entry < entries - 1 else "to_rgb"
        yield from to_rgb_rules(f"{ours}.{early}", f"{theirs}.to_rgbs.{entry}")


def style_layer_rules(ours: str, theirs: str, size: tuple[int, int], *, seed: int) -> Iterator[WeightRule]:
    """A modulated convolution; its constant noise is ours, since theirs was drawn anew each time."""
    yield from affine_rules(f"{ours}.affine", f"{theirs}.conv.modulation")
    yield rule(f"{ours}.weight", f"{theirs}.conv.weight", make=lambda weight: weight[0])
    yield rule(f"{ours}.bias", f"{theirs}.activate.bias")
    yield rule(f"{ours}.noise.strength", f"{theirs}.noise.weight", make=lambda weight: weight[0])
    yield nothing(f"{ours}.noise.const", lambda: torch.randn(size, generator=torch.Generator().manual_seed(seed)))


def to_rgb_rules(ours: str, theirs: str) -> Iterator[WeightRule]:
    """Where a ToRGB's tensors come from."""
    yield from affine_rules(f"{ours}.affine", f"{theirs}.conv.modulation")
    yield rule(f"{ours}.weight", f"{theirs}.conv.weight", make=flat_weight)
    yield rule(f"{ours}.bias", f"{theirs}.bias", make=torch.flatten)


def affine_rules(ours: str, theirs: str) -> Iterator[WeightRule]:
    """A style's linear map: they add 1 to the bias when it is used, ours starts at 1."""
    yield rule(f"{ours}.weight", f"{theirs}.weight")
    yield rule(f"{ours}.bias", f"{theirs}.bias", make=lambda bias: bias + 1)


def sln_rules(ours: str, theirs: str) -> Iterator[WeightRule]:
    for name in ("gamma", "beta"):
        yield from pair(f"{ours}.{name}", f"{theirs}.mlp_{name}")


def fourier_rules(ours: str, theirs: str) -> Iterator[WeightRule]:
    yield rule(f"{ours}.linear.weight", f"{theirs}.weight", make=lambda weight: weight.flatten(1))
    yield rule(f"{ours}.linear.bias", f"{theirs}.bias")


def pair(ours: str, theirs: str, *, bias: bool = True) -> list[WeightRule]:
    return [rule(f"{ours}.{part}", f"{theirs}.{part}") for part in (("weight", "bias") if bias else ("weight",))]


def nothing(ours: str, make: Callable[[], Tensor]) -> WeightRule:
    """A tensor of ours that none of theirs corresponds to."""
    return WeightRule(ours, (), make)


def flat_weight(weight: Tensor) -> Tensor:
    """[1,out,in,1,1] as [out,in]."""
    return weight[0].flatten(1)

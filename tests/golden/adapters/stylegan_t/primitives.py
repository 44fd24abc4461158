"""StyleGAN-T's primitives: equalised linear map, latent normalisation, resampling, Fourier features."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from blocks.common.equalized import EqualLinear
from blocks.common.resample import Blur2d, Downsample2d, Resample2d, Upsample2d, fir_kernel
from blocks.norm.pixel_norm import PixelNorm
from blocks.ops.upfirdn2d import upfirdn2d
from blocks.synthesis_input.fourier_features import FourierFeatures
from tests.golden.fixtures import Fixture, Outputs, adapter

Settings = dict[str, Any]


@adapter("stylegan_t", "fully_connected")
def fully_connected(fixture: Fixture) -> Outputs:
    args, x = fixture.config["args"], fixture.inputs["x"]
    activation = args.get("activation", "linear")
    built_in = activation in ("linear", "lrelu")
    layer = EqualLinear(
        args["in_features"],
        args["out_features"],
        lr_multiplier=args.get("lr_multiplier", 1.0),
        bias_init=args.get("bias_init", 0.0) if args.get("bias", True) else None,
        activation=activation if built_in else "linear",
    )
    y = functional_call(layer, fixture.tensors, x, strict=True)
    return {"y": y if built_in else {"relu": F.relu, "swish": F.silu}[activation](y) * math.sqrt(2)}


@adapter("stylegan_t", "normalize_2nd_moment")
def normalize_2nd_moment(fixture: Fixture) -> Outputs:
    axis, x = fixture.config.get("dim", 1), fixture.inputs["x"]
    rows = x.movedim(axis, -1)
    normal = PixelNorm(eps=fixture.config.get("eps", 1e-8))(rows.flatten(0, -2)[:, None, None])
    return {"y": normal.reshape(rows.shape).movedim(-1, axis)}


@adapter("stylegan_t", "resample")
def resample(fixture: Fixture) -> Outputs:
    operations = {
        "upsample2d": upsample2d,
        "downsample2d": downsample2d,
        "filter2d": filter2d,
        "upfirdn2d": run,
        "conv2d_resample": conv2d_resample,
    }
    outputs = {}
    for name, call in fixture.config["calls"].items():
        args, taps = dict(call.get("args", {})), call.get("filter") or [1]
        if call["op"] == "conv2d_resample":
            args["weight"] = fixture.inputs[call["weight"]]
        if call["op"] == "setup_filter":
            outputs[name] = setup_filter(taps, **call.get("setup", {})).to(fixture.dtype)
        else:
            outputs[name] = operations[call["op"]](fixture.inputs["x"], taps, call.get("setup", {}), **args)
    return outputs


def setup_filter(
    taps: list[Any],
    *,
    normalize: bool = True,
    flip_filter: bool = False,
    gain: float = 1.0,
    separable: bool | None = None,
) -> Tensor:
    kernel, plain = fir_kernel(taps), torch.tensor(taps, dtype=torch.float32)
    if separable is not None and plain.ndim == 1:
        kernel = plain / plain.sum() if separable else torch.outer(plain, plain) / plain.sum().square()
    if not normalize:
        kernel = kernel * plain.sum() ** (kernel.ndim if plain.ndim == 1 else 1)
    kernel = kernel * gain ** (kernel.ndim / 2)
    return kernel.flip(*range(kernel.ndim)) if flip_filter else kernel


def run(x: Tensor, taps: list[Any], setup: Settings, *, flip_filter: bool = False, **options: Any) -> Tensor:
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    if "padding" in options:
        options["padding"] = four(options["padding"])
    return upfirdn2d(x, setup_filter(taps, **setup), flip_filter=flip_filter, **options)


def padded(
    x: Tensor, taps: list[Any], setup: Settings, block: Resample2d, *, padding: Any = 0, flip_filter: bool = False
) -> Tensor:
    """The output of `block` with additional padding."""
    wider = tuple(own + more for own, more in zip(block.padding, four(padding), strict=True))
    options = {"up": block.up, "down": block.down, "gain": block.gain, "padding": wider}
    return run(x, taps, setup, flip_filter=flip_filter, **options)


def upsample2d(x: Tensor, taps: list[Any], setup: Settings, *, up: Any = 2, gain: float = 1.0, **more: Any) -> Tensor:
    return padded(x, taps, setup, Upsample2d(two(up), taps, gain=gain), **more)


def downsample2d(
    x: Tensor, taps: list[Any], setup: Settings, *, down: Any = 2, gain: float = 1.0, **more: Any
) -> Tensor:
    return padded(x, taps, setup, Downsample2d(two(down), taps, gain=gain), **more)


def filter2d(x: Tensor, taps: list[Any], setup: Settings, *, gain: float = 1.0, **more: Any) -> Tensor:
    return gain * padded(x, taps, setup, Blur2d(taps), **more)


def conv2d_resample(
    x: Tensor,
    taps: list[Any],
    setup: Settings,
    *,
    weight: Tensor,
    up: int = 1,
    down: int = 1,
    padding: Any = 0,
    groups: int = 1,
    flip_weight: bool = True,
    flip_filter: bool = False,
) -> Tensor:
    parts = [Upsample2d(up, taps)] if up > 1 else []
    parts += [Downsample2d(down, taps)] if down > 1 else []
    wider = tuple(sum(sides) for sides in zip(four(padding), *(part.padding for part in parts), strict=True))
    x = run(x, taps, setup, up=up, padding=wider, gain=up**2, flip_filter=flip_filter)
    return F.conv2d(x, weight if flip_weight else weight.flip(2, 3), stride=down, groups=groups)


@adapter("stylegan_t", "synthesis_input")
def synthesis_input(fixture: Fixture) -> Outputs:
    config = fixture.config
    width, height = two(config["size"])
    block = FourierFeatures(
        config["w_dim"],
        dim=config["channels"],
        resolution=(height, width),
        bandwidth=config["bandwidth"],
        sampling_rate=config["sampling_rate"],
    ).to(fixture.dtype)
    tensors = dict(fixture.tensors)
    if "transform" in config:
        tensors["transform"] = torch.tensor(config["transform"], dtype=fixture.dtype)
    return {"x": functional_call(block, tensors, fixture.inputs["w"][:, None])}


def two(value: Any) -> tuple[int, int]:
    return (value[0], value[1]) if isinstance(value, list) else (value, value)


def four(value: Any) -> tuple[int, int, int, int]:
    """One number for all sides, or (horizontal, vertical), or all four."""
    sides = [value] if isinstance(value, int) else list(value)
    left, right, top, bottom = {1: sides * 4, 2: [*sides[:1] * 2, *sides[1:] * 2], 4: sides}[len(sides)]
    return left, right, top, bottom

"""Calls of every op, which tests compare its kernels by: small tensors, odd and non-square maps, most options.

`registry.testing` finds them in `blocks.testing`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from registry.testing.calls import Call

BATCHED = {  # tensors with a batch axis
    "attention": "q k v",
    "bias_act": "x",
    "conv2d": "x",
    "grid_sample": "x coordinates",
    "l2_attention": "q k v",
    "modulated_conv2d": "x style",
    "neighborhood_attention": "q k v",
    "upfirdn2d": "x",
}
FEW = {"upfirdn2d": 3}  # the first calls of an op that together every kernel can serve; 2 of other ops


def calls(op: str, batch: int = 2) -> list[Call]:
    """Calls of an op in float64."""
    batched = tuple(BATCHED[op].split())
    return [
        Call(tensors, options, tuple(leaves.split()), batched).to(torch.float64)
        for options, leaves, tensors in GRIDS[op](batch, torch.Generator().manual_seed(0))
    ]


Grid = Iterator[tuple[dict[str, Any], str, dict[str, Tensor]]]  # options, leaves and tensors of each call


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")


def attention(batch: int, random: torch.Generator) -> Grid:
    q, k, v, bias = (normal(random, *shape) for shape in ((batch, 2, 6, 8), *((batch, 2, 5, 8),) * 2, (2, 6, 5)))
    yield {}, "q k v bias", {"q": q, "k": k, "v": v, "bias": bias}
    yield {"scale": 0.3}, "q k v", {name: normal(random, batch, 2, 6, 32) for name in "qkv"}
    for heads, queries, keys, dim in ((1, 35, 35, 16), (3, 49, 7, 5), (4, 64, 64, 12)):
        q = normal(random, batch, heads, queries, dim)
        k, v = normal(random, 2, batch, heads, keys, dim)
        yield {}, "q k v", {"q": q, "k": k, "v": v}
        yield {}, "q k v bias", {"q": q, "k": k, "v": v, "bias": normal(random, heads, queries, keys)}


def bias_act(batch: int, random: torch.Generator) -> Grid:
    x, bias = normal(random, batch, 3, 4, 5), normal(random, 3)
    for leaves in ("x bias", ""):
        yield {"activation": "lrelu", "clamp": 1.0}, leaves, {"x": x, "bias": bias}
    for shape in ((batch, 8, 5, 7), (batch, 6)):
        yield {"activation": "lrelu"}, "x", {"x": normal(random, *shape)}


def conv2d(batch: int, random: torch.Generator) -> Grid:
    x, weight, bias = normal(random, batch, 64, 16, 18), normal(random, 64, 64, 3, 3) / 24, normal(random, 64)
    yield {"padding": 1}, "x weight bias", {"x": x, "weight": weight, "bias": bias}
    for dim, out, side in ((8, 6, 1), (5, 7, 3)):
        x, weight = normal(random, batch, dim, 5, 7), normal(random, out, dim, side, side)
        yield {"padding": side // 2}, "x weight", {"x": x, "weight": weight}


def grid_sample(batch: int, random: torch.Generator) -> Grid:
    x, coordinates = normal(random, batch, 3, 6, 7), 3 + 3 * normal(random, batch, 4, 5, 2)
    for leaves in ("x", "x coordinates"):
        yield {}, leaves, {"x": x, "coordinates": coordinates}


def l2_attention(batch: int, random: torch.Generator) -> Grid:
    for heads, queries, keys, dim in ((2, 6, 520, 8), (3, 35, 49, 5)):
        q = normal(random, batch, heads, queries, dim)
        k, v = normal(random, 2, batch, heads, keys, dim)
        for leaves in ("q k v", "q v"):
            yield {}, leaves, {"q": q, "k": k, "v": v}


def modulated_conv2d(batch: int, random: torch.Generator) -> Grid:
    taps = torch.tensor([1, 3, 3, 1], dtype=torch.float64, device="cpu")
    filter = torch.outer(taps, taps) / 64
    for height, width, side in ((5, 6, 3), (7, 4, 1)):
        x, weight, style = normal(random, batch, 8, height, width), normal(random, 6, 8, side, side), 2
        tensors = {"x": x, "weight": weight, "style": style + normal(random, batch, 8)}
        yield {"flip_kernel": True}, "x weight style", tensors
        yield {"up": 2}, "x weight style", {**tensors, "filter": filter}


def neighborhood_attention(batch: int, random: torch.Generator) -> Grid:
    for (height, width), heads, dim, window in (
        ((12, 14), 2, 16, {"kernel_size": 3, "dilation": 2}),
        ((7, 9), 3, 8, {"kernel_size": 7, "dilation": 1}),
        ((15, 10), 1, 12, {"kernel_size": 5, "dilation": 2}),
    ):
        q, k, v = normal(random, 3, batch, height, width, heads, dim)
        side = 2 * window["kernel_size"] - 1
        yield window, "q k v bias", {"q": q, "k": k, "v": v, "bias": normal(random, heads, side, side)}
        yield window, "q k v", {"q": q, "k": k, "v": v}


def upfirdn2d(batch: int, random: torch.Generator) -> Grid:
    x, short, long = normal(random, batch, 3, 8, 9), normal(random, 4, 4), normal(random, 9)
    yield {"up": 2, "padding": (2, 1, 2, 1)}, "x", {"x": x, "filter": short}
    yield {"down": 2, "padding": (1, 1, 1, 1)}, "x filter", {"x": x, "filter": short}
    yield {"up": 2, "down": 2, "padding": (4, 4, 4, 4)}, "x filter", {"x": x, "filter": long}
    yield {"padding": (1, 2, 2, 1)}, "x", {"x": normal(random, batch, 4, 5, 7), "filter": short}


GRIDS = {
    grid.__name__: grid
    for grid in (
        *(attention, bias_act, conv2d, grid_sample, l2_attention, modulated_conv2d, neighborhood_attention),
        upfirdn2d,
    )
}
CALLS = {op: partial(calls, op) for op in GRIDS}

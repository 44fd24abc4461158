"""The attention weights of every block of a generator for one image, head by head.

The output of attention is linear in its values, so the weights that a query gives to all keys are the gradient of its
output by the values. That holds for every op whose call is (q, k, v, ...), whichever kernel runs: inside
`record_calls`, each such call of a block is repeated under autograd. A block that passes the whole map to its op, row
by row or as [B,H,W,heads,d], needs no code for this. Other blocks say where their tokens lie by two optional methods:

    pixels_of_calls(height, width)   per call, the pixel of each query [groups, tokens], counted row by row
    key_projection()                 weights [keys, pixels] of a block whose keys are sums of pixels; None for others

and `attention_map`, called like `forward`, returns the block's own map of queries against keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from assemblies import Generator
from blocks.families import Attention
from registry.kernels import BoundOp


class Call(NamedTuple):
    """One call of an attention op."""

    op: BoundOp
    qkv: tuple[Tensor, ...]
    options: dict[str, Any]


class Partition(NamedTuple):
    """Heads of a block that share a window shape."""

    label: str
    heads: int
    details: dict[str, Any]


class BlockAttention(NamedTuple):
    """The attention of one block. `weights` are those of the chosen queries and sum to 1 for each head.

    `received` is the weight that each pixel gets from the mean query, times the number of pixels: 1 if uniform.
    """

    path: str
    kind: str
    resolution: tuple[int, int]
    partitions: tuple[Partition, ...]
    weights: Float[Tensor, "heads q h w"]
    received: Float[Tensor, "heads h w"]
    query_key: Float[Tensor, "heads h w"] | None


class Unavailable(NamedTuple):
    """A block of attention without maps, and why."""

    path: str
    kind: str
    reason: str


@torch.no_grad()
def attention_maps(
    generator: Generator,
    ws: Float[Tensor, "1 n s"],
    at: Sequence[tuple[float, float]],
    receive: Callable[[BlockAttention], None],
) -> list[Unavailable]:
    """Pass each block's attention in the image of `ws` to `receive`, in the order in which the blocks run.

    Args:
        generator: In eval mode.
        ws: The style vectors of one image.
        at: The queries, as (row, column) between 0 and 1, whatever the resolution of a map.
        receive: Called once per block, so that the maps of one block at a time are in memory.

    Returns:
        The blocks of attention that have no maps, with the reasons.
    """
    unavailable: list[Unavailable] = []
    recorded: set[nn.Module] = set()

    def analyse(path: str, module: nn.Module, inputs: tuple[Any, ...], calls: list[Call]) -> None:
        recorded.add(module)
        kind = getattr(module, "kind", None) or type(module).__name__
        result = _attention_of(path, kind, module, inputs, calls, at)
        unavailable.append(result) if isinstance(result, Unavailable) else receive(result)

    with record_calls(generator, analyse):
        generator.synthesis(ws)
    for path, module in generator.named_modules():
        if isinstance(module, Attention) and not recorded.intersection(module.modules()):
            unavailable.append(Unavailable(path, str(module.kind), "it calls no attention op"))
    return unavailable


@contextmanager
def record_calls(
    network: nn.Module, analyse: Callable[[str, nn.Module, tuple[Any, ...], list[Call]], None]
) -> Iterator[None]:
    """While open, `analyse` gets the inputs and op calls of each module that calls attention ops, after its forward."""
    replaced: list[tuple[nn.Module, str, BoundOp]] = []
    hooks = []
    try:
        for path, module in network.named_modules():
            bound = {name: op for name, op in vars(module).items() if isinstance(op, BoundOp)}
            bound = {name: op for name, op in bound.items() if "attention" in op.op.name}
            calls: list[Call] = []
            for name, op in bound.items():
                replaced.append((module, name, op))
                setattr(module, name, partial(_record, op, calls))
            if bound:
                hooks.append(module.register_forward_hook(partial(_hand_over, analyse, path, calls)))
        yield
    finally:
        for module, name, op in replaced:
            setattr(module, name, op)
        for hook in hooks:
            hook.remove()


def _record(op: BoundOp, calls: list[Call], *qkv: Tensor, **options: Any) -> Tensor:
    calls.append(Call(op, qkv, options))
    y: Tensor = op(*qkv, **options)
    return y


def _hand_over(
    analyse: Callable[..., None], path: str, calls: list[Call], module: nn.Module, inputs: tuple[Any, ...], _: Any
) -> None:
    recorded = calls[:]
    calls.clear()
    analyse(path, module, inputs, recorded)


def _attention_of(
    path: str,
    kind: str,
    module: nn.Module,
    inputs: tuple[Any, ...],
    calls: list[Call],
    at: Sequence[tuple[float, float]],
) -> BlockAttention | Unavailable:
    block: Any = module
    x = inputs[0]
    height, width = tuple(x.shape[1:3] if isinstance(module, Attention) else x.shape[2:])
    queries = [min(int(y * height), height - 1) * width + min(int(x * width), width - 1) for y, x in at]
    projection = block.key_projection() if hasattr(module, "key_projection") else None
    pixels = iter(block.pixels_of_calls(height, width)) if hasattr(module, "pixels_of_calls") else None
    partitions, maps = [], []
    covered: list[Int[Tensor, "g n"]] = []
    part: Tensor | None = None
    for call in calls:
        of_pixel = torch.arange(height * width)[None] if pixels is None else next(pixels)
        queried, gradients = _weights(call, of_pixel, queries)
        keys = gradients.shape[-1]
        if queried != of_pixel.numel() or (
            keys != of_pixel.shape[1] and (projection is None or len(projection) != keys)
        ):
            reason = f"its op was called with {queried} queries and {keys} keys on a map of {height}x{width} pixels"
            return Unavailable(path, kind, f"{reason}; define pixels_of_calls or key_projection")
        if part is None:
            part = gradients.new_zeros(*gradients.shape[1:3], height * width)
        if projection is not None:
            part += (gradients @ projection.detach().to(gradients.dtype)).sum(0)
        else:  # groups have different pixels, which lie side by side here
            part[..., of_pixel.flatten()] += gradients.permute(1, 2, 0, 3).flatten(2)
        covered.append(of_pixel)
        if sum(each.numel() for each in covered) == height * width:
            partitions.append(_describe(call, covered, part.shape[0], (height, width), projection))
            maps.append(part)
            covered, part = [], None
    if part is not None or not maps:
        return Unavailable(path, kind, "the calls of its op do not cover the map")
    whole = torch.unflatten(torch.cat(maps), -1, (height, width)).float().cpu()
    picture = block.attention_map(*inputs)[0].float().cpu() if hasattr(module, "attention_map") else None
    return BlockAttention(path, kind, (height, width), tuple(partitions), whole[:, :-1], whole[:, -1], picture)


def _weights(
    call: Call, of_pixel: Int[Tensor, "g n"], queries: Sequence[int]
) -> tuple[int, Float[Tensor, "g heads queries+1 keys"]]:
    """The number of queries of a call, and the weights of all keys for each chosen query and, last, the mean query."""
    q, k, v = (each.detach() for each in call.qkv)
    v.requires_grad_()
    with torch.enable_grad():
        y = _by_head(call.op(q, k, v, **call.options)[..., 0])
    groups, _, tokens = y.shape
    if groups * tokens != of_pixel.numel():
        return groups * tokens, _by_head(v.detach()[..., 0])[:, :, None]
    pixels = of_pixel.to(y.device)[:, None]
    masks = [pixels == query for query in queries] + [pixels >= 0]
    weights = [torch.autograd.grad(y, v, mask.expand_as(y).to(y.dtype), retain_graph=True)[0][..., 0] for mask in masks]
    return groups * tokens, torch.stack([_by_head(each) for each in weights], 2)


def _by_head(x: Tensor) -> Float[Tensor, "g heads n"]:
    """One channel of an op's input or output as [B,heads,N]; [B,H,W,heads] is flattened row by row."""
    return x if x.ndim == 3 else x.permute(0, 3, 1, 2).flatten(2)


def _describe(
    call: Call,
    covered: Sequence[Int[Tensor, "g n"]],
    heads: int,
    resolution: tuple[int, int],
    projection: Tensor | None,
) -> Partition:
    details: dict[str, Any] = {"op": call.op.op.name, "heads": heads}
    by_distance = ", by distance" if call.op.op.name == "l2_attention" else ""
    if "kernel_size" in call.options:
        details |= {name: call.options.get(name, 1) for name in ("kernel_size", "dilation")}
        label = f"window {details['kernel_size']}x{details['kernel_size']}, dilation {details['dilation']}"
    elif projection is not None:
        details["rank"] = len(projection)
        label = f"{len(projection)} projected keys"
    elif sum(len(each) for each in covered) > 1:
        sides = [_sides(group, resolution[1]) for each in covered for group in each]
        window = max(sides)
        first = next(_sides(group, resolution[1]) for each in covered for group in each if group.min() == 0)
        shift = [side % whole for side, whole in zip(first, window, strict=True)]
        details |= {"window_size": list(window), "shift": shift}
        label = f"windows of {window[0]}x{window[1]}" + (f", shifted by {max(shift)}" if any(shift) else "")
    else:
        label = "whole map"
    return Partition(label + by_distance, heads, details)


def _sides(pixels: Int[Tensor, " n"], width: int) -> tuple[int, int]:
    rows, columns = pixels // width, pixels % width
    return int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1

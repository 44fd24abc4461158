"""What the attention of a generator really does for one image: who attends to whom, head by head.

Attention is linear in its values, so the weights that a query gives to all keys are the gradient of what it gets by the
values. That holds for every op whose call is (q, k, v, ...), whichever kernel serves it: while `listening` is open,
each such call of a block is run once more under autograd. A block that hands its op the whole map, row by row or as
[B,H,W,heads,d], needs to know nothing of this. One that does not says by two optional methods where its tokens lie:

    pixels_of_calls(height, width)   for each call the pixel of each query [groups, tokens], counted row by row
    key_projection()                 where keys are sums of pixels, by which weights [keys, pixels]; None where not

and `attention_map`, called as `forward` is, gives its own picture of queries and keys.
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
    """Heads of a block that see windows of one shape."""

    label: str
    heads: int
    about: dict[str, Any]


class BlockAttention(NamedTuple):
    """What one block of attention did. `weights` are those of the chosen queries, and sum to 1 for each head.

    `received` is what each pixel gets from an average query, times the number of pixels: 1 where all get the same.
    """

    path: str
    kind: str
    resolution: tuple[int, int]
    partitions: tuple[Partition, ...]
    weights: Float[Tensor, "heads q h w"]
    received: Float[Tensor, "heads h w"]
    query_key: Float[Tensor, "heads h w"] | None


class Unseen(NamedTuple):
    """A block of attention that cannot be pictured, and why."""

    path: str
    kind: str
    reason: str


@torch.no_grad()
def attention_maps(
    generator: Generator,
    ws: Float[Tensor, "1 n s"],
    at: Sequence[tuple[float, float]],
    seen: Callable[[BlockAttention], None],
) -> list[Unseen]:
    """Show each block's attention in the image of `ws` to `seen`, in the order in which they run.

    Args:
        generator: In eval mode.
        ws: The styles of one image.
        at: The queries, as (row, column) between 0 and 1, whatever the resolution of a map.
        seen: Called once for each block, so that the maps of one block at a time are held in memory.

    Returns:
        The attention that could not be seen.
    """
    unseen: list[Unseen] = []
    met: set[nn.Module] = set()

    def hear(path: str, module: nn.Module, inputs: tuple[Any, ...], calls: list[Call]) -> None:
        met.add(module)
        kind = getattr(module, "kind", None) or type(module).__name__
        found = _attended(path, kind, module, inputs, calls, at)
        unseen.append(found) if isinstance(found, Unseen) else seen(found)

    with listening(generator, hear):
        generator.synthesis(ws)
    for path, module in generator.named_modules():
        if isinstance(module, Attention) and not met.intersection(module.modules()):
            unseen.append(Unseen(path, str(module.kind), "it calls no attention op"))
    return unseen


@contextmanager
def listening(
    network: nn.Module, hear: Callable[[str, nn.Module, tuple[Any, ...], list[Call]], None]
) -> Iterator[None]:
    """While open, each module that calls attention ops tells its inputs and calls when its forward is done."""
    swapped: list[tuple[nn.Module, str, BoundOp]] = []
    hooks = []
    try:
        for path, module in network.named_modules():
            bound = {name: op for name, op in vars(module).items() if isinstance(op, BoundOp)}
            bound = {name: op for name, op in bound.items() if "attention" in op.op.name}
            calls: list[Call] = []
            for name, op in bound.items():
                swapped.append((module, name, op))
                setattr(module, name, partial(_heard, op, calls))
            if bound:
                hooks.append(module.register_forward_hook(partial(_told, hear, path, calls)))
        yield
    finally:
        for module, name, op in swapped:
            setattr(module, name, op)
        for hook in hooks:
            hook.remove()


def _heard(op: BoundOp, calls: list[Call], *qkv: Tensor, **options: Any) -> Tensor:
    calls.append(Call(op, qkv, options))
    y: Tensor = op(*qkv, **options)
    return y


def _told(
    hear: Callable[..., None], path: str, calls: list[Call], module: nn.Module, inputs: tuple[Any, ...], _: Any
) -> None:
    heard = calls[:]
    calls.clear()
    hear(path, module, inputs, heard)


def _attended(
    path: str,
    kind: str,
    module: nn.Module,
    inputs: tuple[Any, ...],
    calls: list[Call],
    at: Sequence[tuple[float, float]],
) -> BlockAttention | Unseen:
    block: Any = module
    x = inputs[0]
    height, width = tuple(x.shape[1:3] if isinstance(module, Attention) else x.shape[2:])
    queries = [min(int(y * height), height - 1) * width + min(int(x * width), width - 1) for y, x in at]
    sums = block.key_projection() if hasattr(module, "key_projection") else None
    places = iter(block.pixels_of_calls(height, width)) if hasattr(module, "pixels_of_calls") else None
    partitions, maps = [], []
    covered: list[Int[Tensor, "g n"]] = []
    part: Tensor | None = None
    for call in calls:
        of_pixel = torch.arange(height * width)[None] if places is None else next(places)
        queried, gradients = _weights(call, of_pixel, queries)
        keys = gradients.shape[-1]
        if queried != of_pixel.numel() or (keys != of_pixel.shape[1] and (sums is None or len(sums) != keys)):
            said = f"its op was called with {queried} queries and {keys} keys on a map of {height}x{width} pixels"
            return Unseen(path, kind, f"{said}; pixels_of_calls or key_projection could say which are which")
        if part is None:
            part = gradients.new_zeros(*gradients.shape[1:3], height * width)
        if sums is not None:
            part += (gradients @ sums.detach().to(gradients.dtype)).sum(0)
        else:  # groups see different pixels, which lie side by side here
            part[..., of_pixel.flatten()] += gradients.permute(1, 2, 0, 3).flatten(2)
        covered.append(of_pixel)
        if sum(each.numel() for each in covered) == height * width:
            partitions.append(_describe(call, covered, part.shape[0], (height, width), sums))
            maps.append(part)
            covered, part = [], None
    if part is not None or not maps:
        return Unseen(path, kind, "the calls of its op do not cover the map")
    whole = torch.unflatten(torch.cat(maps), -1, (height, width)).float().cpu()
    picture = block.attention_map(*inputs)[0].float().cpu() if hasattr(module, "attention_map") else None
    return BlockAttention(path, kind, (height, width), tuple(partitions), whole[:, :-1], whole[:, -1], picture)


def _weights(
    call: Call, of_pixel: Int[Tensor, "g n"], queries: Sequence[int]
) -> tuple[int, Float[Tensor, "g heads queries+1 keys"]]:
    """How many queries a call has; and of each chosen query, last of the mean one, the weights of all keys."""
    q, k, v = (each.detach() for each in call.qkv)
    v.requires_grad_()
    with torch.enable_grad():
        y = _by_head(call.op(q, k, v, **call.options)[..., 0])
    groups, _, tokens = y.shape
    if groups * tokens != of_pixel.numel():
        return groups * tokens, _by_head(v.detach()[..., 0])[:, :, None]
    pixels = of_pixel.to(y.device)[:, None]
    asked = [pixels == query for query in queries] + [pixels >= 0]
    found = [torch.autograd.grad(y, v, mask.expand_as(y).to(y.dtype), retain_graph=True)[0][..., 0] for mask in asked]
    return groups * tokens, torch.stack([_by_head(each) for each in found], 2)


def _by_head(x: Tensor) -> Float[Tensor, "g heads n"]:
    """One channel of what an op takes or gives: [B,heads,N] as it is, [B,H,W,heads] with its pixels in one row."""
    return x if x.ndim == 3 else x.permute(0, 3, 1, 2).flatten(2)


def _describe(
    call: Call, covered: Sequence[Int[Tensor, "g n"]], heads: int, resolution: tuple[int, int], sums: Tensor | None
) -> Partition:
    about: dict[str, Any] = {"op": call.op.op.name, "heads": heads}
    by_distance = ", by distance" if call.op.op.name == "l2_attention" else ""
    if "kernel_size" in call.options:
        about |= {name: call.options.get(name, 1) for name in ("kernel_size", "dilation")}
        label = f"window {about['kernel_size']}x{about['kernel_size']}, dilation {about['dilation']}"
    elif sums is not None:
        about["rank"] = len(sums)
        label = f"{len(sums)} sums of all pixels"
    elif sum(len(each) for each in covered) > 1:
        sides = [_sides(group, resolution[1]) for each in covered for group in each]
        window = max(sides)
        first = next(_sides(group, resolution[1]) for each in covered for group in each if group.min() == 0)
        shift = [side % whole for side, whole in zip(first, window, strict=True)]
        about |= {"window_size": list(window), "shift": shift}
        label = f"windows of {window[0]}x{window[1]}" + (f", shifted by {max(shift)}" if any(shift) else "")
    else:
        label = "whole map"
    return Partition(label + by_distance, heads, about)


def _sides(pixels: Int[Tensor, " n"], width: int) -> tuple[int, int]:
    rows, columns = pixels // width, pixels % width
    return int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1

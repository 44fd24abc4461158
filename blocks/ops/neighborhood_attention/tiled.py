"""Neighborhood attention tile by tile: plain matrix products that fit into the cache, on any device.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1; a softmax by tiles that is computed again for
the gradient: FlashAttention, Dao et al. 2022, https://arxiv.org/abs/2205.14135, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.ops.neighborhood_attention.strips import Maps, Strips
from blocks.ops.neighborhood_attention.tiles import Table, check, cut, groups, submaps, table_gradient, tables
from registry import Kernel

LOGITS = {"cpu": 2**19}  # how many at once: as many as a cache holds
MANY_LOGITS = 2**26  # elsewhere, where many small steps cost more than what they do
SAFE = 1e18  # sums of exponentials between this and its inverse have lost nothing


def steps(
    tensors: list[Tensor], bias: Tensor | None, kernel_size: int, dilation: int, dtype: torch.dtype
) -> Iterator[tuple[Strips, int, Table, list[Maps]]]:
    """What to compute at once: strips, the first column of tiles in them, what to add to the logits, and the maps."""
    height, width = tensors[0].shape[1:3]
    device = tensors[0].device
    most = LOGITS.get(device.type, MANY_LOGITS)
    for down, length in groups(height, dilation):
        rows = cut(length, kernel_size)
        for across, breadth in groups(width, dilation):
            columns = cut(breadth, kernel_size)
            kinds = tables(rows, columns, kernel_size, bias, dtype, device)
            views = [submaps(x, down, across, dilation) for x in tensors]
            batch, groups_down, groups_across, heads = views[0].shape[:4]
            column = groups_across * heads * rows.padded * rows.span * columns.tile * columns.span
            some_down = max(1, min(groups_down, most // column))
            some_batch = max(1, min(batch, most // (column * groups_down)))
            at_once = max(1, most // (column * some_down * some_batch))
            for b in range(0, batch, some_batch):
                for g in range(0, groups_down, some_down):
                    maps = [x[b : b + some_batch, g : g + some_down] for x in views]
                    strips: dict[int, Strips] = {}
                    for table, first, stop in kinds:
                        for index in range(first, stop, at_once):
                            count = min(at_once, stop - index)
                            if count not in strips:
                                strips[count] = Strips(count, rows, columns, maps[0], dtype)
                            yield strips[count], index, table, maps


def weigh(
    q: Float[Tensor, "tiles tt d"],
    k: Float[Tensor, "tiles ss d"],
    table: Table,
    scale: float,
    weights: Float[Tensor, "tiles tt ss"],
) -> Float[Tensor, "tiles tt 1"]:
    """Exponentials of the logits, written into `weights`; what is given has still to divide them."""
    logits, factors = (x.flatten(1) for x in table)
    by_head = weights.view(-1, *logits.shape)
    if weights.device.type == "cpu":  # no maximum is taken off, which is right as long as nothing overflows
        weights.baddbmm_(q, k.transpose(1, 2), beta=0, alpha=scale).exp_()
        by_head.mul_(factors)
        sums = weights.sum(-1, keepdim=True)
        least, most = sums.aminmax()
        if 1 / SAFE < least.item() and most.item() < SAFE:
            return sums
    by_head.copy_(logits)
    weights.baddbmm_(q, k.transpose(1, 2), alpha=scale)
    torch.softmax(weights, -1, out=weights)
    return torch.ones_like(weights[..., :1])


def mix(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, kernel_size: int, dilation: int, scale: float
) -> Float[Tensor, "b h w n d"]:
    """Neighborhood attention."""
    y = torch.empty(q.shape, dtype=v.dtype, device=v.device)
    dtype = torch.promote_types(q.dtype, torch.float32)
    served = None
    for strips, first, table, maps in steps([q, k, v, y], bias, kernel_size, dilation, dtype):
        if strips is not served:
            served = strips
            (queries, q2), (keys, k2), (values, v2) = strips.narrow(), strips.wide(), strips.wide()
            (mixed, y2), weights = strips.narrow(), strips.weights()
        for x, strip in zip(maps, (queries, keys, values), strict=False):
            strips.copy(x, strip, first)
        sums = weigh(q2, k2, table, scale, weights)
        torch.bmm(weights, v2, out=y2).div_(sums)
        there, here = strips.between(maps[3], mixed, first)
        there.copy_(here)
    return y


def gradients(
    grad: Tensor,
    y: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    kernel_size: int,
    dilation: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of queries, keys, values and bias; the last is empty where there is no bias."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    dq = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    dk, dv = (torch.zeros(x.shape, dtype=dtype, device=x.device) for x in (k, v))
    dbias = torch.zeros(() if bias is None else bias.shape, dtype=dtype, device=q.device)
    served = None
    tensors = [q, k, v, grad, y, dq, dk, dv]
    for strips, first, table, maps in steps(tensors, bias, kernel_size, dilation, dtype):
        if strips is not served:
            served = strips
            (queries, q2), (keys, k2), (values, v2) = strips.narrow(), strips.wide(), strips.wide()
            (grads, g2), (mixed, y2) = strips.narrow(), strips.narrow()
            weights, slopes, windows = strips.weights(), strips.weights(), torch.empty_like(k2)
        for x, strip in zip(maps, (queries, keys, values, grads, mixed), strict=False):
            strips.copy(x, strip, first)
        sums = weigh(q2, k2, table, scale, weights)
        g2.div_(sums)  # and so the weights need no division
        strips.add(torch.bmm(weights.transpose(1, 2), g2, out=windows), maps[7], first)
        torch.bmm(g2, v2.transpose(1, 2), out=slopes)
        slopes.sub_(y2.mul_(g2).sum(-1, keepdim=True)).mul_(weights)
        if bias is not None:
            by_head = slopes.view(-1, bias.shape[0], strips.rows.number, *slopes.shape[1:]).sum((0, 2))
            dbias += table_gradient(by_head, strips.rows, strips.columns, kernel_size)
        torch.baddbmm(windows, slopes.transpose(1, 2), q2, beta=0, alpha=scale, out=windows)
        strips.add(windows, maps[6], first)
        torch.baddbmm(y2, slopes, k2, beta=0, alpha=scale, out=y2)
        there, here = strips.between(maps[5], mixed, first)
        there.copy_(here)
    return dq, dk.to(k.dtype), dv.to(v.dtype), dbias.to(q.dtype if bias is None else bias.dtype)


CALL = "Tensor q, Tensor k, Tensor v, Tensor? bias, int kernel_size, int dilation, float scale"
tiled = torch.library.custom_op("ganblocks::tiled", mix, mutates_args=(), schema=f"({CALL}) -> Tensor")
tiled_gradients = torch.library.custom_op(
    "ganblocks::tiled_gradients",
    gradients,
    mutates_args=(),
    schema=f"(Tensor grad, Tensor y, {CALL}) -> (Tensor, Tensor, Tensor, Tensor)",
)


@tiled.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *_: Any) -> Tensor:
    return v.new_empty(q.shape)


@tiled_gradients.register_fake
def _(grad: Tensor, y: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *_: Any) -> tuple[Tensor, ...]:
    return (*(x.new_empty(x.shape) for x in (q, k, v)), q.new_empty(()) if bias is None else bias.new_empty(bias.shape))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(output, *inputs[:4])
    ctx.window = inputs[4:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    dq, dk, dv, dbias = tiled_gradients(grad, *ctx.saved_tensors, *ctx.window)
    return dq, dk, dv, None if ctx.saved_tensors[4] is None else dbias, None, None, None


tiled.register_autograd(_backward, setup_context=_keep)


class Tiled(Kernel):
    """Tiles of queries beside the keys that they can see; has no second derivative."""

    op = "neighborhood_attention"
    name = "tiled"
    priority = 30

    def unsupported(self, q: Tensor, k: Tensor, v: Tensor, *, kernel_size: int, **_: object) -> list[str]:
        if q.dtype == k.dtype == v.dtype:
            return []
        return [f"q, k and v should have one dtype, not {q.dtype}, {k.dtype} and {v.dtype}"]

    def run(
        self,
        q: Float[Tensor, "b h w n d"],
        k: Float[Tensor, "b h w n d"],
        v: Float[Tensor, "b h w n d"],
        *,
        kernel_size: int,
        dilation: int = 1,
        bias: Float[Tensor, "n r r"] | None = None,
        scale: float | None = None,
    ) -> Float[Tensor, "b h w n d"]:
        check(q.shape[1], q.shape[2], kernel_size, dilation)
        scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
        y: Tensor = tiled(q, k, v, bias, kernel_size, dilation, scale)
        return y

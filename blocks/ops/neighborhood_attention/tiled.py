"""Neighborhood attention tile by tile: matrix products whose operands fit into the cache, on any device.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1; softmax by tiles that the backward pass
recomputes: FlashAttention, Dao et al. 2022, https://arxiv.org/abs/2205.14135, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.ops.neighborhood_attention.strips import Maps, Strips
from blocks.ops.neighborhood_attention.tiles import (
    Mask,
    bias_gradient,
    check_map,
    column_masks,
    dilation_groups,
    group_maps,
    tile_axis,
)
from blocks.ops.neighborhood_attention.windows import ARGUMENTS
from blocks.ops.operators import differentiable_operator
from registry import Kernel

MOST_LOGITS = {"cpu": 2**19}  # logits per step: as many as the cache holds
MOST_LOGITS_ELSEWHERE = 2**26  # on GPUs, where many small steps cost more than their arithmetic
OVERFLOW_LIMIT = 1e18  # sums of exponentials between this and its inverse have lost no precision


def steps(
    tensors: list[Tensor], bias: Tensor | None, kernel_size: int, dilation: int, dtype: torch.dtype
) -> Iterator[tuple[Strips, int, Mask, list[Maps]]]:
    """Buffers, first column of tiles, mask and maps of each step of the computation."""
    height, width = tensors[0].shape[1:3]
    device = tensors[0].device
    most = MOST_LOGITS.get(device.type, MOST_LOGITS_ELSEWHERE)
    for row_groups, num_rows in dilation_groups(height, dilation):
        rows = tile_axis(num_rows, kernel_size)
        for column_groups, num_columns in dilation_groups(width, dilation):
            columns = tile_axis(num_columns, kernel_size)
            masks = column_masks(rows, columns, kernel_size, bias, dtype, device)
            views = [group_maps(x, row_groups, column_groups, dilation) for x in tensors]
            batch, num_row_groups, num_column_groups, heads = views[0].shape[:4]
            column_logits = num_column_groups * heads * rows.padded * rows.span * columns.tile * columns.span
            groups_per_step = max(1, min(num_row_groups, most // column_logits))
            batch_per_step = max(1, min(batch, most // (column_logits * num_row_groups)))
            columns_per_step = max(1, most // (column_logits * groups_per_step * batch_per_step))
            for b in range(0, batch, batch_per_step):
                for g in range(0, num_row_groups, groups_per_step):
                    maps = [x[b : b + batch_per_step, g : g + groups_per_step] for x in views]
                    strips: dict[int, Strips] = {}
                    for mask, first, stop in masks:
                        for column in range(first, stop, columns_per_step):
                            count = min(columns_per_step, stop - column)
                            if count not in strips:
                                strips[count] = Strips(count, rows, columns, maps[0], dtype)
                            yield strips[count], column, mask, maps


def unnormalized_softmax(
    q: Float[Tensor, "tiles tt d"],
    k: Float[Tensor, "tiles ss d"],
    mask: Mask,
    scale: float,
    weights: Float[Tensor, "tiles tt ss"],
) -> Float[Tensor, "tiles tt 1"]:
    """Write the exponentials of the logits into `weights`; the result is the sums to divide them by."""
    logits, factors = (x.flatten(1) for x in mask)
    by_head = weights.view(-1, *logits.shape)
    if weights.device.type == "cpu":  # no maximum is subtracted, which is exact as long as nothing overflows
        weights.baddbmm_(q, k.transpose(1, 2), beta=0, alpha=scale).exp_()
        by_head.mul_(factors)
        sums = weights.sum(-1, keepdim=True)
        least, most = sums.aminmax()
        if 1 / OVERFLOW_LIMIT < least.item() and most.item() < OVERFLOW_LIMIT:
            return sums
    by_head.copy_(logits)
    weights.baddbmm_(q, k.transpose(1, 2), alpha=scale)
    torch.softmax(weights, -1, out=weights)
    return torch.ones_like(weights[..., :1])


def attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, kernel_size: int, dilation: int, scale: float
) -> Float[Tensor, "b h w n d"]:
    """Neighborhood attention."""
    y = torch.empty(q.shape, dtype=v.dtype, device=v.device)
    dtype = torch.promote_types(q.dtype, torch.float32)
    allocated = None
    for strips, first, mask, maps in steps([q, k, v, y], bias, kernel_size, dilation, dtype):
        if strips is not allocated:
            allocated = strips
            (q_strip, q2), (k_strip, k2), (v_strip, v2) = strips.queries(), strips.keys(), strips.keys()
            (y_strip, y2), weights = strips.queries(), strips.weights()
        for x, strip in zip(maps, (q_strip, k_strip, v_strip), strict=False):
            strips.load(x, strip, first)
        sums = unnormalized_softmax(q2, k2, mask, scale, weights)
        torch.bmm(weights, v2, out=y2).div_(sums)
        target, source = strips.overlap(maps[3], y_strip, first)
        target.copy_(source)
    return y


def attend_backward(
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
    """Gradients of queries, keys, values and bias; the last is a scalar without meaning if there is no bias."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    dq = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    dk, dv = (torch.zeros(x.shape, dtype=dtype, device=x.device) for x in (k, v))
    dbias = torch.zeros(() if bias is None else bias.shape, dtype=dtype, device=q.device)
    allocated = None
    tensors = [q, k, v, grad, y, dq, dk, dv]
    for strips, first, mask, maps in steps(tensors, bias, kernel_size, dilation, dtype):
        if strips is not allocated:
            allocated = strips
            (q_strip, q2), (k_strip, k2), (v_strip, v2) = strips.queries(), strips.keys(), strips.keys()
            (grad_strip, grad2), (y_strip, y2) = strips.queries(), strips.queries()
            weights, dlogits, windows = strips.weights(), strips.weights(), torch.empty_like(k2)
        for x, strip in zip(maps, (q_strip, k_strip, v_strip, grad_strip, y_strip), strict=False):
            strips.load(x, strip, first)
        sums = unnormalized_softmax(q2, k2, mask, scale, weights)
        grad2.div_(sums)  # instead of the weights, which are more
        strips.add(torch.bmm(weights.transpose(1, 2), grad2, out=windows), maps[7], first)
        torch.bmm(grad2, v2.transpose(1, 2), out=dlogits)
        dlogits.sub_(y2.mul_(grad2).sum(-1, keepdim=True)).mul_(weights)
        if bias is not None:
            by_head = dlogits.view(-1, bias.shape[0], strips.rows.num_tiles, *dlogits.shape[1:]).sum((0, 2))
            dbias += bias_gradient(by_head, strips.rows, strips.columns, kernel_size)
        torch.baddbmm(windows, dlogits.transpose(1, 2), q2, beta=0, alpha=scale, out=windows)
        strips.add(windows, maps[6], first)
        torch.baddbmm(y2, dlogits, k2, beta=0, alpha=scale, out=y2)
        target, source = strips.overlap(maps[5], y_strip, first)
        target.copy_(source)
    return dq, dk.to(k.dtype), dv.to(v.dtype), dbias.to(q.dtype if bias is None else bias.dtype)


tiled = differentiable_operator("tiled", ARGUMENTS, attend, attend_backward, takes_output=True)


class Tiled(Kernel):
    """Tiles of queries with the keys that they can attend to; no second derivative."""

    op, name, priority = "neighborhood_attention", "tiled", 30

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
        check_map(q.shape[1], q.shape[2], kernel_size, dilation)
        scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
        y: Tensor = tiled(q, k, v, bias, kernel_size, dilation, scale)
        return y

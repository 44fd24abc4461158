"""Neighborhood attention tile by tile: plain matrix products that fit into the cache, on any device.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1; a softmax by tiles that is computed again for
the gradient: FlashAttention, Dao et al. 2022, https://arxiv.org/abs/2205.14135, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.kernels.neighborhood_attention.strips import Strips
from blocks.kernels.neighborhood_attention.tiles import check, cut, groups, submaps, tables
from registry import Kernel

LOGITS = {"cpu": 2**18}  # how many at once: as many as a cache holds
MANY_LOGITS = 2**26  # elsewhere, where many small steps cost more than what they do
SAFE = 1e18  # a sum of exponentials between this and its inverse has lost nothing


def steps(
    tensors: list[Tensor], bias: Tensor | None, kernel_size: int, dilation: int, dtype: torch.dtype
) -> Iterator[tuple[Strips, int, Tensor, list[Tensor]]]:
    """What to compute at once: strips, the first column of tiles in them, what to add to the logits, and the maps."""
    height, width = tensors[0].shape[1:3]
    most = LOGITS.get(tensors[0].device.type, MANY_LOGITS)
    for down, length in groups(height, dilation):
        rows = cut(length, kernel_size)
        for across, breadth in groups(width, dilation):
            columns = cut(breadth, kernel_size)
            added, kinds = tables(rows, columns, kernel_size, bias, dtype, tensors[0].device)
            views = [submaps(x, down, across, dilation) for x in tensors]
            batch, groups_down, groups_across, heads = views[0].shape[:4]
            each = groups_across * heads * rows.padded * rows.span * columns.tile * columns.span
            step_down = max(1, min(groups_down, most // each))
            step_batch = max(1, min(batch, most // (each * groups_down)))
            at_once = max(1, most // (each * step_down * step_batch))
            for b in range(0, batch, step_batch):
                for g in range(0, groups_down, step_down):
                    maps = [x[b : b + step_batch, g : g + step_down] for x in views]
                    strips: dict[int, Strips] = {}
                    for kind, first, stop in kinds:
                        for index in range(first, stop, at_once):
                            count = min(at_once, stop - index)
                            if count not in strips:
                                strips[count] = Strips(count, rows, columns, maps[0], dtype)
                            yield strips[count], index, added[kind], maps


def attend(q: Tensor, k: Tensor, added: Tensor, scale: float, logits: Tensor) -> Tensor | None:
    """Exponentials of the logits of each tile, in `logits`; what they sum to, unless they are divided by it already."""
    by_head = logits.view(-1, added.shape[0], *added.shape[1:])
    by_head.copy_(added)
    logits.baddbmm_(q, k.transpose(1, 2), alpha=scale)
    return torch.softmax(logits, -1, out=logits)


def forward(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, kernel_size: int, dilation: int, scale: float
) -> Tensor:
    y = torch.empty(q.shape, dtype=v.dtype, device=v.device)
    dtype = torch.promote_types(q.dtype, torch.float32)
    buffers = None
    for strips, first, added, (q_, k_, v_, y_) in steps([q, k, v, y], bias, kernel_size, dilation, dtype):
        if buffers is None or buffers[0] is not strips:
            buffers = (strips, strips.narrow(), strips.wide(), strips.wide(), strips.narrow(), strips.new(strips.tiles, strips.area, strips.window))
        _, (queries, q2), (keys, k2), (values, v2), (mixed, y2), logits = buffers
        strips.copy(q_, queries, first)
        strips.copy(k_, keys, first)
        strips.copy(v_, values, first)
        factor = added.exp()
        torch.baddbmm(logits, q2, k2.transpose(1, 2), alpha=scale, beta=0, out=logits)
        logits.exp_()
        logits.view(-1, *added.shape).mul_(factor)
        sums = logits.sum(-1, keepdim=True)
        if not bool(sums.isfinite().all()): print('bad')
        torch.bmm(logits, v2, out=y2)
        if sums is not None:
            y2.div_(sums)
        there, here = strips.between(y_, mixed, first)
        there.copy_(here)
    return y
FAST=True

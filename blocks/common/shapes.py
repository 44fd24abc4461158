"""Checks of the tensors that a block is called with: each names the block, the shape that it needs and the shape it got.

They compare Python integers only, so that they cost microseconds and pass through torch.compile, torch.export and the
meta device.
"""

from __future__ import annotations

from torch import Tensor, nn


def check_nhwc(block: nn.Module, x: Tensor, dim: int | None = None) -> None:
    """Raise ValueError unless `x` is a map [B,H,W,C] with `dim` channels, or any number of them if None."""
    if x.ndim != 4 or dim not in (None, x.shape[3]):
        cure = ""
        if x.ndim == 3:
            cure = "; reshape tokens [B, N, C] to a map: x.unflatten(1, (height, width))"
        elif x.ndim == 4 and x.shape[1] == dim:
            cure = "; a map [B, C, H, W] has to be permuted: x.permute(0, 2, 3, 1)"
        raise _mismatch(block, "x", f"[B, H, W, {dim or 'C'}]", x, cure)


def check_nchw(block: nn.Module, x: Tensor, dim: int | None = None) -> None:
    """Raise ValueError unless `x` is a map [B,C,H,W] with `dim` channels, or any number of them if None."""
    if x.ndim != 4 or dim not in (None, x.shape[1]):
        cure = ""
        if x.ndim == 3:
            cure = "; reshape tokens [B, N, C] to a map: x.mT.unflatten(2, (height, width))"
        elif x.ndim == 4 and x.shape[3] == dim:
            cure = "; a map [B, H, W, C] has to be permuted: x.permute(0, 3, 1, 2)"
        raise _mismatch(block, "x", f"[B, {dim or 'C'}, H, W]", x, cure)


def check_style(block: nn.Module, w: Tensor | None, style_dim: int, x: Tensor) -> Tensor:
    """The style `w`; ValueError unless it is [B,style_dim] with the batch size of `x`."""
    if w is None:
        raise ValueError(f"{_name(block)}: w is missing; pass one style vector per sample, [B, {style_dim}]")
    if w.ndim != 2 or w.shape[1] != style_dim or w.shape[0] != x.shape[0]:
        raise _mismatch(block, "w", f"[{x.shape[0]}, {style_dim}]", w)
    return w


def check_styles(block: nn.Module, ws: Tensor | None, num_styles: int, style_dim: int, x: Tensor) -> Tensor:
    """The styles `ws`; ValueError unless they are [B,n,style_dim], n >= num_styles, with the batch size of `x`."""
    if ws is None:
        raise ValueError(f"{_name(block)}: ws is missing; pass style vectors, [B, {num_styles}, {style_dim}]")
    if ws.ndim != 3 or ws.shape[1] < num_styles or ws.shape[2] != style_dim or ws.shape[0] != x.shape[0]:
        raise _mismatch(block, "ws", f"[{x.shape[0]}, {num_styles}, {style_dim}]", ws)
    return ws


def check_condition(block: nn.Module, c: Tensor | None, cond_dim: int, x: Tensor) -> None:
    """Raise ValueError unless `c` is [B,cond_dim] with the batch size of `x`, or None if `cond_dim` is 0."""
    if c is None:
        if cond_dim:
            raise ValueError(f"{_name(block)}: this block is conditional; pass c, [B, {cond_dim}]")
    elif not cond_dim:
        raise ValueError(f"{_name(block)}: this block is unconditional and takes no c; build it with a cond_dim")
    elif c.ndim != 2 or c.shape[1] != cond_dim or c.shape[0] != x.shape[0]:
        raise _mismatch(block, "c", f"[{x.shape[0]}, {cond_dim}]", c)


def check_resolution(block: nn.Module, height: int, width: int, resolution: tuple[int, int]) -> None:
    """Raise ValueError unless a map has the resolution that the block was built for."""
    if (height, width) != tuple(resolution):
        built = f"{resolution[0]}x{resolution[1]}"
        raise ValueError(
            f"{_name(block)}: the map has {height}x{width} pixels, but the block was built for {built}; "
            f"build it with resolution ({height}, {width})"
        )


def _name(block: nn.Module) -> str:
    kind = getattr(type(block), "kind", None)
    return kind if isinstance(kind, str) else type(block).__name__


def _mismatch(block: nn.Module, name: str, wanted: str, actual: Tensor, cure: str = "") -> ValueError:
    return ValueError(f"{_name(block)}: {name} should have shape {wanted}, not {list(actual.shape)}{cure}")

"""Checks of the tensors that a block is called with; each error names the block, the needed shape and the actual one.

They compare Python integers only, so they take microseconds and work under torch.compile, torch.export and on the meta
device.
"""

from __future__ import annotations

from torch import Tensor, nn


def check_nhwc(block: nn.Module, x: Tensor, dim: int | None = None) -> None:
    """Raise ValueError unless `x` is a map [B,H,W,C] with `dim` channels, or with any number of them if None."""
    if x.ndim != 4 or (dim is not None and x.shape[3] != dim):
        cure = ""
        if x.ndim == 3:
            cure = "; reshape tokens [B, N, C] to a map with x.unflatten(1, (height, width))"
        elif x.ndim == 4 and x.shape[1] == dim:
            cure = "; permute a map [B, C, H, W] with x.permute(0, 2, 3, 1)"
        raise _mismatch(block, "x", f"[B, H, W, {dim or 'C'}]", x, cure)


def check_nchw(
    block: nn.Module, x: Tensor, dim: int | None = None, *, name: str = "x", like: Tensor | None = None
) -> None:
    """Raise ValueError unless the argument `name` is a map [B,C,H,W] with `dim` channels; None allows any number.

    Its batch size must be that of `like`.
    """
    if x.ndim != 4 or (dim is not None and x.shape[1] != dim):
        cure = ""
        if x.ndim == 3 and name == "x":
            cure = "; reshape tokens [B, N, C] to a map with x.mT.unflatten(2, (height, width))"
        elif x.ndim == 4 and x.shape[3] == dim:
            cure = "; permute a map [B, H, W, C] with x.permute(0, 3, 1, 2)"
        raise _mismatch(block, name, f"[B, {dim or 'C'}, H, W]", x, cure)
    if like is not None and x.shape[0] != like.shape[0]:
        raise _mismatch(block, name, f"[{like.shape[0]}, {dim or 'C'}, H, W]", x)


def check_channels(block: nn.Module, x: Tensor, dim: int) -> None:
    """Raise ValueError unless the last axis of `x`, of any rank, has `dim` channels."""
    if x.shape[-1] != dim:
        raise _mismatch(block, "x", f"[..., {dim}]", x)


def check_vectors(block: nn.Module, name: str, value: Tensor, dim: int) -> None:
    """Raise ValueError unless the argument `name` is [B,dim]."""
    if value.ndim != 2 or value.shape[1] != dim:
        raise _mismatch(block, name, f"[B, {dim}]", value)


def check_style(block: nn.Module, w: Tensor | None, style_dim: int, x: Tensor) -> Tensor:
    """Return `w`; raise ValueError unless it is [B,style_dim] with the batch size of `x`."""
    if w is None:
        raise ValueError(f"{_name(block)}: w is missing; pass a style vector for each sample, [B, {style_dim}]")
    if w.ndim != 2 or w.shape[1] != style_dim or w.shape[0] != x.shape[0]:
        raise _mismatch(block, "w", f"[{x.shape[0]}, {style_dim}]", w)
    return w


def check_styles(block: nn.Module, ws: Tensor | None, num_styles: int, style_dim: int, x: Tensor) -> Tensor:
    """Return `ws`; raise ValueError unless it is [B,n,style_dim] with n >= num_styles and the batch size of `x`."""
    if ws is None:
        raise ValueError(f"{_name(block)}: ws is missing; pass style vectors, [B, {num_styles}, {style_dim}]")
    if ws.ndim != 3 or ws.shape[1] < num_styles or ws.shape[2] != style_dim or ws.shape[0] != x.shape[0]:
        raise _mismatch(block, "ws", f"[{x.shape[0]}, {num_styles}, {style_dim}]", ws)
    return ws


def check_condition(block: nn.Module, c: Tensor | None, cond_dim: int, batch: Tensor) -> None:
    """Raise ValueError unless `c` is [B,cond_dim] with the batch size of `batch`, or None if `cond_dim` is 0."""
    if c is None:
        if cond_dim:
            raise ValueError(f"{_name(block)}: c is missing; pass a condition for each sample, [B, {cond_dim}]")
    elif not cond_dim:
        raise ValueError(f"{_name(block)}: built without a condition (cond_dim 0), so it takes no c; leave c out")
    elif c.ndim != 2 or c.shape[1] != cond_dim or c.shape[0] != batch.shape[0]:
        raise _mismatch(block, "c", f"[{batch.shape[0]}, {cond_dim}]", c)


def check_resolution(block: nn.Module, height: int, width: int, resolution: tuple[int, int]) -> None:
    """Raise ValueError unless a map of these pixels has the `resolution` that the block was built for."""
    if height != resolution[0] or width != resolution[1]:
        built = f"built for maps of {resolution[0]}x{resolution[1]} pixels"
        raise ValueError(f"{_name(block)}: {built}, not {height}x{width}; build it with this resolution")


def _name(block: nn.Module) -> str:
    kind = getattr(type(block), "kind", None)
    return kind if isinstance(kind, str) else type(block).__name__


def _mismatch(block: nn.Module, name: str, expected: str, actual: Tensor, cure: str = "") -> ValueError:
    return ValueError(f"{_name(block)}: {name} should have shape {expected}, not {list(actual.shape)}{cure}")

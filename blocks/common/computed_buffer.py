"""Constants: buffers that are computed from a block's options and are not in its state dict, and single numbers.

A module that is built on the meta device and then loaded has no values for them; `reset_buffers` computes them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn


class _Computed(NamedTuple):
    compute: Callable[[], Tensor]
    default_dtype: torch.dtype  # what the buffer was first computed under


def computed_buffer(module: nn.Module, name: str, compute: Callable[..., Tensor], *args: Any) -> None:
    """Register the non-persistent buffer `name` with the value `compute(*args)`.

    Args:
        module: The module that holds the buffer.
        name: Attribute name of the buffer.
        compute: A named function, so that `module` can be pickled; not random.
        *args: Arguments of `compute`.
    """
    module.register_buffer(name, compute(*args), persistent=False)
    computed: dict[str, _Computed] = module.__dict__.setdefault("_computed_buffers", {})
    computed[name] = _Computed(partial(compute, *args), torch.get_default_dtype())


def filled(values: Sequence[float], like: Tensor) -> Float[Tensor, " n"]:
    """Numbers as a vector with dtype and device of `like`. `torch.tensor` would wait until they are copied there."""
    return torch.stack([like.new_full((), value) for value in values])


@torch.no_grad()
def reset_buffers(module: nn.Module) -> None:
    """Recompute every buffer in `module` that `computed_buffer` registered; dtypes and devices stay.

    Call it after `module.to_empty(device=...)` and `load_state_dict`. A buffer that is still on the meta device, as
    after `load_state_dict(..., assign=True)`, is put on the CPU. Modules of timm recompute their own buffers by
    `init_non_persistent_buffers`.
    """
    for part in module.modules():
        if callable(init := getattr(part, "init_non_persistent_buffers", None)):
            init()
        for name, (compute, dtype) in part.__dict__.get("_computed_buffers", {}).items():
            buffer = part.get_buffer(name)
            with torch.device("cpu"), _default_dtype(dtype):
                value = compute().to(buffer.dtype)
            if buffer.is_meta:
                part.register_buffer(name, value, persistent=False)
            else:
                buffer.copy_(value)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)

"""Networks that a model uses without owning them: frozen, unsaved, known by where they came from and by a hash.

A text tower of a hundred million weights that never changes does not have to be copied into each checkpoint, each
average and each model file; there a reference stands for it: its name, and the hash of its tensors.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

FOLDER = "GANBLOCKS_WEIGHTS"
_left_out: ContextVar[Literal["none", "own", "all"]] = ContextVar("left_out", default="none")


class FrozenModule(nn.Module):
    """Computes with a network that neither learns nor is saved with its holder; copies share it.

    It stays in eval mode and in its own dtype, and moves between devices only. Gradients pass through it.

    Args:
        network: What computes.
        source: Where its weights came from, as words by name.
    """

    network: nn.Module

    def __init__(self, network: nn.Module, source: Mapping[str, str]) -> None:
        super().__init__()
        self.__dict__["network"] = network.eval().requires_grad_(False)  # no submodule: its weights are not ours
        self.source = dict(source)
        self._fingerprint: str | None = None

    def forward(self, *inputs: Any) -> Any:
        return self.network(*inputs)

    def fingerprint(self) -> str:
        """A hash of the network's tensors, the same for each file format that they may come in."""
        if self._fingerprint is None:
            found = hashlib.sha256()
            for name, value in sorted(self.network.state_dict().items()):
                found.update(f"{name} {tuple(value.shape)}".encode())
                numbers = value.detach().cpu()
                found.update((numbers.float() if numbers.is_floating_point() else numbers).contiguous().numpy())
            self._fingerprint = found.hexdigest()
        return self._fingerprint

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrozenModule:
        def moved(tensor: Tensor) -> Tensor:
            device = fn(torch.empty(0, device=tensor.device)).device
            return torch.empty_like(tensor, device=device) if device.type == "meta" else tensor.to(device)

        self.network._apply(moved, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenModule:
        twin = type(self)(self.network, self.source)
        twin._fingerprint = self._fingerprint
        return twin


def references(module: nn.Module) -> dict[str, dict[str, str]]:
    """What a module borrows, by the names of the places: sources and hashes."""
    return {
        name: {**part.source, "sha256": part.fingerprint()}
        for name, part in module.named_modules()
        if isinstance(part, FrozenModule)
    }


@contextmanager
def weights_follow() -> Iterator[None]:
    """While open, blocks that own published weights do not load them: those of a model file come right after."""
    token = _left_out.set("own")
    try:
        yield
    finally:
        _left_out.reset(token)


@contextmanager
def without_weights() -> Iterator[None]:
    """While open, no weights are loaded, and networks have random ones: enough to measure how fast they are."""
    token = _left_out.set("all")
    try:
        yield
    finally:
        _left_out.reset(token)


def weights_are_wanted(*, embed_weights: bool = False) -> bool:
    """Whether a block that is being built should load weights: not on meta, nor its own ones where they follow."""
    left_out = _left_out.get()
    return torch.get_default_device().type != "meta" and left_out != "all" and not (embed_weights and left_out == "own")


def find_weights(*names: str) -> Path | None:
    """A local file of weights: the first name that is a path, or lies in the folder that GANBLOCKS_WEIGHTS names."""
    folder = os.environ.get(FOLDER)
    for name in names:
        for path in (Path(name).expanduser(), *([Path(folder) / Path(name).name] if folder else [])):
            if path.is_file():
                return path
    return None

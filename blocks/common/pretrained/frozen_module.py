"""Frozen networks that a model uses and does not save, such as the text tower of a CLIP.

Checkpoints, averages and model files hold no copy of their weights. A model file holds their source and a hash.
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

WEIGHTS_ENV = "GANBLOCKS_WEIGHTS"
_skipped: ContextVar[Literal["none", "embedded", "all"]] = ContextVar("skipped", default="none")


class FrozenModule(nn.Module):
    """Holds a frozen network outside the state dict; deep copies share it.

    The network stays in eval mode and in its own dtype; only its device changes. Gradients pass through it.

    Args:
        network: The network.
        source: Where its weights came from, as text by name.
    """

    network: nn.Module

    def __init__(self, network: nn.Module, source: Mapping[str, str]) -> None:
        super().__init__()
        self.__dict__["network"] = network.eval().requires_grad_(False)  # not a submodule: not in the state dict
        self.source = dict(source)
        self._fingerprint: str | None = None

    def forward(self, *inputs: Any) -> Any:
        return self.network(*inputs)

    def fingerprint(self) -> str:
        """SHA-256 of the network's tensors; it does not depend on the format of the file they were read from."""
        if self._fingerprint is None:
            self._fingerprint = sha256_of_tensors(self.network)
        return self._fingerprint

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrozenModule:
        def to_device(tensor: Tensor) -> Tensor:
            device = fn(torch.empty(0, device=tensor.device)).device
            if tensor.is_meta and device.type != "meta":
                raise RuntimeError(
                    "a frozen network that was built on the meta device has no weights, and a state dict has none for "
                    "it; build the model on a real device"
                )
            return torch.empty_like(tensor, device=device) if device.type == "meta" else tensor.to(device)

        self.network._apply(to_device, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenModule:
        twin = type(self)(self.network, self.source)
        twin._fingerprint = self._fingerprint
        return twin


def sha256_of_tensors(network: nn.Module) -> str:
    """SHA-256 of the names, shapes and float32 values in a network's state dict."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)}".encode())
        values = value.detach().cpu()
        digest.update((values.float() if values.is_floating_point() else values).contiguous().numpy())
    return digest.hexdigest()


def list_frozen_modules(module: nn.Module) -> dict[str, dict[str, str]]:
    """Source and hash of each `FrozenModule` in a module, by its name."""
    return {
        name: {**part.source, "sha256": part.fingerprint()}
        for name, part in module.named_modules()
        if isinstance(part, FrozenModule)
    }


@contextmanager
def defer_embedded_weights() -> Iterator[None]:
    """While open, blocks do not load published weights that their state dict holds; the caller loads one afterwards."""
    token = _skipped.set("embedded")
    try:
        yield
    finally:
        _skipped.reset(token)


@contextmanager
def skip_weights() -> Iterator[None]:
    """While open, no published weights are loaded; networks keep random ones, which is enough to measure speed."""
    token = _skipped.set("all")
    try:
        yield
    finally:
        _skipped.reset(token)


def should_load_weights(*, embed_weights: bool = False) -> bool:
    """Whether a block under construction loads its published weights.

    Not on the meta device, not inside `skip_weights`, and inside `defer_embedded_weights` only if the weights are not
    in the block's state dict.

    Args:
        embed_weights: Whether the weights are in the block's state dict.
    """
    skipped = _skipped.get()
    if torch.get_default_device().type == "meta" or skipped == "all":
        return False
    return not (embed_weights and skipped == "embedded")


def find_weights_file(*names: str) -> Path | None:
    """The first local file among `names`, each as a path and as a file name in the folder `GANBLOCKS_WEIGHTS`."""
    folder = os.environ.get(WEIGHTS_ENV)
    for name in names:
        for path in (Path(name).expanduser(), *([Path(folder) / Path(name).name] if folder else [])):
            if path.is_file():
                return path
    return None

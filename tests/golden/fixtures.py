"""Golden fixtures: recorded outputs of reference implementations, on inputs and weights that follow from their names.

README.md describes the format.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

DATA = Path(__file__).parent / "data"
Outputs = dict[str, Tensor]
Adapter = Callable[["Fixture"], Outputs]
ADAPTERS: dict[tuple[str, str], Adapter] = {}


def adapter(model: str, *kinds: str) -> Callable[[Adapter], Adapter]:
    """Registers a function that computes the outputs of fixtures of these kinds with our blocks."""

    def register(function: Adapter) -> Adapter:
        for kind in kinds:
            assert (model, kind) not in ADAPTERS, f"two adapters for {model} {kind}"
            ADAPTERS[model, kind] = function
        return function

    return register


def fill(name: str, shape: list[int], offset: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """The values of a tensor, from its name."""
    values = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF).standard_normal(shape)
    return np.asarray(offset + scale * values).astype(np.float32)


def fill_input(entry: dict[str, Any]) -> np.ndarray:
    """The values of an input, from its entry in fixture.json."""
    random = np.random.RandomState(zlib.crc32(entry["seed_name"].encode()) & 0x7FFFFFFF)
    offset, scale, shape = entry.get("offset", 0.0), entry.get("scale", 1.0), entry["shape"]
    if entry["kind"] == "uniform":
        return np.asarray(offset + scale * random.uniform(size=shape)).astype(np.float32)
    if entry["kind"] == "ints":
        return np.asarray(offset + random.randint(0, scale, size=shape)).astype(np.int64)
    return fill(entry["seed_name"], shape, offset, scale)


def on_device(array: np.ndarray) -> Tensor:
    """An array as a tensor on the default device."""
    return torch.from_numpy(array).to(torch.get_default_device())


class Fixture:
    """One fixture in a dtype, on the default device.

    `tensors`, `attributes` and `inputs` are leaves that require gradients.
    """

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self.folder = folder
        self.dtype = dtype
        self.json: dict[str, Any] = json.loads((folder / "fixture.json").read_text())
        self.model, self.name, self.kind = self.json["model"], self.json["name"], self.json["kind"]
        self.config: dict[str, Any] = self.json.get("config", {})
        self.tensors = {name: self._leaf(fill(name, **entry)) for name, entry in self.json.get("tensors", {}).items()}
        for alias, name in self.json.get("aliases", {}).items():
            self.tensors[alias] = self.tensors[name]
        attributes = self.json.get("attributes", {})
        self.attributes = {name: self._leaf(fill(name, **entry)) for name, entry in attributes.items()}
        self.inputs = {name: self._leaf(fill_input(entry)) for name, entry in self.json.get("inputs", {}).items()}
        with np.load(folder / "outputs.npz") as arrays:
            self.expected = {name: arrays[name] for name in arrays.files}

    def _leaf(self, array: np.ndarray) -> Tensor:
        tensor = on_device(array)
        return tensor.to(self.dtype).requires_grad_() if tensor.is_floating_point() else tensor

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names start with `prefix`, without it."""
        return without_prefix(self.tensors, prefix)

    def condition(self, cond_dim: int, *names: str) -> Tensor | None:
        """The first of these inputs as a condition: labels one-hot, vectors unchanged; None if there is none."""
        for name in names:
            if name in self.inputs:
                c = self.inputs[name]
                return c if c.is_floating_point() else F.one_hot(c, cond_dim).to(self.dtype)
        return None

    def gradients(self, outputs: Outputs) -> Outputs:
        """The gradients of the fixture's scalar loss over `outputs`; empty if the adapter computes its own."""
        wanted = self.json.get("gradients")
        if not wanted or not wanted["wrt"] or not wanted["of"]:
            return {}
        leaves = self.tensors | self.attributes | self.inputs
        loss = torch.zeros((), dtype=self.dtype)
        for name in wanted["of"]:
            output = outputs[name]
            cotangent = on_device(fill(f"cotangent:{name}", list(output.shape))).to(self.dtype)
            loss = loss + (output * cotangent).sum() / output.numel()
        names = [name.partition("[")[0] for name in wanted["wrt"]]
        gradients = torch.autograd.grad(loss, [leaves[name] for name in names], allow_unused=True)
        return {
            f"grad:{name}": torch.zeros_like(leaves[name]) if gradient is None else gradient
            for name, gradient in zip(names, gradients, strict=True)
        }


def without_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose names start with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def relative_error(actual: Tensor, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest magnitude of `expected`."""
    assert tuple(actual.shape) == expected.shape, f"shape {tuple(actual.shape)}, recorded {expected.shape}"
    if expected.size == 0:
        return 0.0
    difference = np.abs(actual.detach().double().cpu().numpy() - expected).max()
    return float(difference / max(np.abs(expected).max(), 1e-30)) if difference > 0 else 0.0

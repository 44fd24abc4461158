"""Reads golden fixtures: recordings of the reference implementations on inputs and weights made from names."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Adapter = Callable[["Fixture"], dict[str, Tensor]]
ADAPTERS: dict[tuple[str, str], Adapter] = {}


def adapter(model: str, *kinds: str) -> Callable[[Adapter], Adapter]:
    """Registers a function that computes, with our blocks, the outputs of fixtures of these kinds."""

    def register(function: Adapter) -> Adapter:
        for kind in kinds:
            assert (model, kind) not in ADAPTERS, f"two adapters for {model} {kind}"
            ADAPTERS[model, kind] = function
        return function

    return register


def fill(name: str, shape: list[int], offset: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """The array that belongs to a name."""
    draws = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF).standard_normal(shape)
    return np.asarray(offset + scale * draws).astype(np.float32)


def fill_input(how: dict[str, Any]) -> np.ndarray:
    """The array of an input, by its kind."""
    rs = np.random.RandomState(zlib.crc32(how["seed_name"].encode()) & 0x7FFFFFFF)
    offset, scale, shape = how.get("offset", 0.0), how.get("scale", 1.0), how["shape"]
    if how["kind"] == "uniform":
        return np.asarray(offset + scale * rs.uniform(size=shape)).astype(np.float32)
    if how["kind"] == "ints":
        return np.asarray(offset + rs.randint(0, scale, size=shape)).astype(np.int64)
    return fill(how["seed_name"], shape, offset, scale)


class Fixture:
    """One recording, in a dtype: `tensors`, `attributes` and `inputs` are leaves that require gradients."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self.folder = folder
        self.dtype = dtype
        self.json: dict[str, Any] = json.loads((folder / "fixture.json").read_text())
        self.model, self.name, self.kind = self.json["model"], self.json["name"], self.json["kind"]
        self.config: dict[str, Any] = self.json.get("config", {})
        self.tensors = {name: self._leaf(fill(name, **how)) for name, how in self.json.get("tensors", {}).items()}
        for alias, name in self.json.get("aliases", {}).items():
            self.tensors[alias] = self.tensors[name]
        self.attributes = {name: self._leaf(fill(name, **how)) for name, how in self.json.get("attributes", {}).items()}
        self.inputs = {name: self._leaf(fill_input(how)) for name, how in self.json.get("inputs", {}).items()}
        with np.load(folder / "outputs.npz") as arrays:
            self.expected = {name: arrays[name] for name in arrays.files}

    def _leaf(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.to(self.dtype).requires_grad_() if tensor.is_floating_point() else tensor

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names start with `prefix`, without it."""
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}

    def gradients(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The gradients that the fixture asks for, of its scalar loss over `outputs`."""
        asked = self.json.get("gradients")
        if not asked or not asked["wrt"] or not asked["of"]:  # of a loss of its own, the adapter gives them
            return {}
        leaves = self.tensors | self.attributes | self.inputs
        loss = torch.zeros((), dtype=self.dtype)
        for name in asked["of"]:
            output = outputs[name]
            cotangent = torch.from_numpy(fill(f"cotangent:{name}", list(output.shape))).to(self.dtype)
            loss = loss + (output * cotangent).sum() / output.numel()
        names = [name.partition("[")[0] for name in asked["wrt"]]
        found = torch.autograd.grad(loss, [leaves[name] for name in names], allow_unused=True)
        return {
            f"grad:{name}": torch.zeros_like(leaves[name]) if gradient is None else gradient
            for name, gradient in zip(names, found, strict=True)
        }


def relative_error(actual: Tensor, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest magnitude expected."""
    assert tuple(actual.shape) == expected.shape, f"shape {tuple(actual.shape)}, recorded {expected.shape}"
    if expected.size == 0:
        return 0.0
    difference = np.abs(actual.detach().double().numpy() - expected).max()
    return float(difference / max(np.abs(expected).max(), 1e-30)) if difference > 0 else 0.0

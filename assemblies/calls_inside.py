"""The calls of the blocks inside a step, so that an error names the innermost slot: `synthesis.1.attention`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from registry import Block, IncompatibleError, Problem

Path = tuple[str | int, ...]


class ShapeChangedError(IncompatibleError):
    """A block that has to keep the shape of its map returns another one; the path is relative to the step."""


class CallsInside:
    """The blocks of a step's slots that are running, the innermost last."""

    def __init__(self, step: nn.Module) -> None:
        self.paths = _slot_paths(step)
        self.running: list[nn.Module] = []

    def innermost(self) -> tuple[Path, nn.Module] | None:
        """The running block, and its slot relative to the step; None if no block of a slot runs."""
        return (self.paths[self.running[-1]], self.running[-1]) if self.running else None

    def enter(self, block: nn.Module, _args: Any) -> None:
        self.running.append(block)

    def leave(self, block: Any, args: tuple[Any, ...], output: Any) -> None:
        self.running.pop()
        x = args[0] if args else None
        if block.stand_in is None or not isinstance(x, Tensor) or not isinstance(output, Tensor):
            return
        if output.shape != x.shape:
            raise ShapeChangedError([Problem(self.paths[block], _advice(block.family_name, x, output))])


@contextmanager
def calls_inside(step: nn.Module) -> Iterator[CallsInside]:
    """Context manager that follows the calls of the blocks in the slots of a step.

    Inside, a block that has to keep the shape of its map raises ShapeChangedError if it returns another one.
    """
    calls = CallsInside(step)
    hooks = [block.register_forward_pre_hook(calls.enter) for block in calls.paths]
    hooks += [block.register_forward_hook(calls.leave) for block in calls.paths]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _slot_paths(step: nn.Module) -> dict[nn.Module, Path]:
    """The blocks inside a step that were built for slots, each with the slots that lead to it."""
    paths: dict[nn.Module, Path] = {}

    def visit(module: nn.Module, path: Path) -> None:
        for child in module.children():
            below = path
            if isinstance(child, Block) and child.slot_path:
                below = (*path, *child.slot_path)
                paths[child] = below
            visit(child, below)

    visit(step, ())
    return paths


def _advice(family: str, x: Tensor, output: Tensor) -> str:
    if x.ndim == output.ndim == 4 and x.shape[:3] == output.shape[:3]:
        return f"returns {output.shape[3]} channels; {family} must keep the {x.shape[3]} it was given"
    return f"returns a map {list(output.shape)}; {family} must keep the shape {list(x.shape)} that it was given"

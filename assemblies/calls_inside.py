"""The calls of the blocks inside a step, so that an error names the innermost slot: `synthesis.1.attention`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

from torch import Tensor, nn

from registry import Block, IncompatibleError, Problem, Spec, build_at
from registry.errors import Path

ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


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
        if block.stand_in is None or not isinstance(x, Tensor):
            return
        if not isinstance(output, Tensor) or output.shape != x.shape:
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


def innermost_built(error: BaseException) -> tuple[Path, Spec]:
    """The path and spec of the innermost block that `build_at` was building when the error was raised."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__) if frame.f_code is build_at.__code__]
    return sum((frame.f_locals["path"] for frame in frames), ()), frames[-1].f_locals["spec"]


def shape_of(path: Path, output: Any, *, required: bool = False) -> tuple[int, ...] | None:
    """The shape of a step's output without the batch axis; None if there is none.

    Raises:
        IncompatibleError: The output is no tensor, or None where it is required.
    """
    if isinstance(output, Tensor):
        return tuple(output.shape[1:])
    if output is None and not required:
        return None
    raise IncompatibleError([Problem(path, f"returns {type(output).__name__}, not a tensor")])


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


def _advice(family: str, x: Tensor, output: Any) -> str:
    if not isinstance(output, Tensor):
        return f"returns {type(output).__name__}, not a tensor"
    if x.ndim == output.ndim == 4 and x.shape[:3] == output.shape[:3]:
        return f"returns {output.shape[3]} channels; {family} must keep the {x.shape[3]} it was given"
    return f"returns a map {list(output.shape)}; {family} must keep the shape {list(x.shape)} that it was given"

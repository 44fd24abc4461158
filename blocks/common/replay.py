"""Calling a random function again with the same random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
OTHER_SEED = 0x9E3779B97F4A7C15  # the golden ratio's binary digits


class TwinGenerators:
    """Two generators of a CUDA device that draw the same random numbers.

    A CUDA graph draws from them what two calls have in common, since its kernels cannot restore a generator's state. It
    registers both before it is captured, https://docs.pytorch.org/docs/stable/generated/torch.cuda.CUDAGraph.html.

    Args:
        device: A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        index = torch.cuda.current_device() if device.index is None else device.index
        self.default = torch.cuda.default_generators[index]
        self.twins = self.default.clone_state(), self.default.clone_state()

    def seed(self) -> None:
        """Give both a state that depends on that of the device's own generator, and a seed that it does not have."""
        for twin in self.twins:
            twin.manual_seed(self.default.initial_seed() ^ OTHER_SEED)
            twin.set_offset(self.default.get_offset())

    @contextmanager
    def drawing_from(self, twin: int) -> Iterator[None]:
        """A context in which the device's random numbers are those of a twin."""
        state = self.default.graphsafe_get_state()
        self.default.graphsafe_set_state(self.twins[twin])
        try:
            yield
        finally:
            self.default.graphsafe_set_state(state)

    @contextmanager
    def used(self) -> Iterator[None]:
        """A context in which `with_same_draws` draws from the twins."""
        token = _twins.set(self)
        try:
            yield
        finally:
            _twins.reset(token)


_twins: ContextVar[TwinGenerators | None] = ContextVar("twins", default=None)


def with_same_draws(call: Callable[[Tensor], T], first: Tensor, second: Tensor) -> tuple[T, T]:
    """`call` of two tensors on one device; the second call draws the same random numbers as the first."""
    twins = _twins.get()
    device = first.device if twins is None else torch.device("cpu")
    state = random_state(device)
    with nullcontext() if twins is None else twins.drawing_from(0):
        of_first = call(first)
    set_random_state(device, state)
    with nullcontext() if twins is None else twins.drawing_from(1):
        return of_first, call(second)


def random_state(device: torch.device) -> list[Tensor]:
    """The state of the random numbers that a function on a device draws: the CPU's and the device's."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def set_random_state(device: torch.device, states: list[Tensor]) -> None:
    """Restore what `random_state` returned."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)

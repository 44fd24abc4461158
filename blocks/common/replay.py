"""Calling a random function again with the same random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def with_same_draws(call: Callable[[Tensor], T], first: Tensor, second: Tensor) -> tuple[T, T]:
    """`call` of two tensors on one device; the second call draws the same random numbers as the first."""
    state = random_state(first.device)
    of_first = call(first)
    set_random_state(first.device, state)
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

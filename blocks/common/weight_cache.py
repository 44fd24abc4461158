"""A cache for values that depend on a weight alone, such as its spectral norm, for use while the weights are frozen.

In training such a value is computed in every step. In sampling it stays the same, and computing it can cost more than
the layer that uses it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

BUDGET_ENV = "GANBLOCKS_WEIGHT_CACHE"
DEFAULT_BUDGET = 64  # MiB


def budget() -> int:
    """Bytes of results that are kept on the CPU: GANBLOCKS_WEIGHT_CACHE in MiB, or 64 MiB.

    Raises:
        ValueError: The variable is not a whole number.
    """
    text = os.environ.get(BUDGET_ENV, str(DEFAULT_BUDGET))
    if not text.isdecimal():
        raise ValueError(f"{BUDGET_ENV}={text!r} is not a number of MiB; set it to {DEFAULT_BUDGET}, or to 0 for none")
    return int(text) * 2**20


class WeightCache:
    """A function of a weight whose results are kept inside `frozen_weights`, unless the weight needs a gradient.

    Args:
        compute: The function: of the weight, and of further hashable arguments.
    """

    def __init__(self, compute: Callable[..., Tensor]) -> None:
        self.compute = compute

    def __call__(self, weight: Tensor, *others: Any) -> Tensor:
        """`compute(weight, *others)`."""
        if not _opened or torch.compiler.is_compiling() or (torch.is_grad_enabled() and weight.requires_grad):
            return self.compute(weight, *others)
        return _opened[-1].result(self.compute, weight, others)


class Entry:
    """A result, or None if it is not kept, and when it was used last."""

    def __init__(self) -> None:
        self.value: Tensor | None = None
        self.used = 0

    @property
    def size(self) -> int:
        """Bytes that count towards the budget. CUDA graphs read results on a GPU, which are never dropped."""
        return 0 if self.value is None or self.value.is_cuda else self.value.nbytes


class Results:
    """Results of `WeightCache`s, at most `budget()` bytes of them on the CPU; a result is freed with its weight.

    A new result replaces those that were not used for the longest time, but none that was used since the new one was
    computed before: a network whose results exceed the budget would replace each of them in every pass.
    """

    def __init__(self) -> None:
        # by weight, and by function and further arguments
        self.entries: MutableMapping[Tensor, dict[Any, Entry]] = WeakTensorKeyDictionary()
        self.budget = budget()
        self.uses = 0

    def result(self, compute: Callable[..., Tensor], weight: Tensor, others: tuple[Any, ...]) -> Tensor:
        """`compute(weight, *others)`, computed or kept."""
        entries = self.entries.setdefault(weight, {})
        entry = entries.setdefault((compute, others), Entry())
        self.uses += 1
        before, entry.used = entry.used, self.uses
        if entry.value is not None:
            return entry.value
        value = compute(weight, *others)
        if value.is_cuda or self.make_room(value.nbytes, before):
            entry.value = value
        return value

    def make_room(self, size: int, before: int) -> bool:
        """Drop results that were not used since `before`, as many as a result of `size` bytes needs, or none."""
        kept = [entry for entries in self.entries.values() for entry in entries.values() if entry.size]
        excess, dropped = sum(entry.size for entry in kept) + size - self.budget, []
        for entry in sorted(kept, key=lambda entry: entry.used):
            if excess <= 0 or entry.used > before:
                break
            excess -= entry.size
            dropped.append(entry)
        if excess > 0:
            return False
        for entry in dropped:
            entry.value = None
        return True


@contextmanager
def frozen_weights(results: Results | None = None) -> Iterator[None]:
    """Keep the results of every `WeightCache` while this is open. The caller must not change any weight meanwhile.

    A change cannot be detected: PyTorch's fused optimisers, for example, do not increment a tensor's version.

    Args:
        results: Where results are kept and looked up, so that they outlive the context; None for the results of the
            surrounding `frozen_weights`, or for new ones.
    """
    if results is None:
        results = _opened[-1] if _opened else Results()
    _opened.append(results)
    try:
        yield
    finally:
        _opened.pop()


def weights_are_frozen() -> bool:
    """Whether `frozen_weights` is open."""
    return bool(_opened)


_opened: list[Results] = []

"""What follows from a weight alone, such as its spectral norm, computed once while weights are promised to stay.

In training it follows anew in every step. A network that only draws samples would compute the same numbers over and
over, which costs a small map more than the map itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


class WeightCache:
    """A function of a weight that remembers what it gave, under `frozen_weights` and where no gradient is wanted.

    Args:
        make: The function, of the weight and of whatever else is passed, which has to be hashable.
    """

    def __init__(self, make: Callable[..., Tensor]) -> None:
        self.make = make

    def __call__(self, weight: Tensor, *others: Any) -> Tensor:
        """`make(weight, *others)`."""
        if not _promises or torch.compiler.is_compiling() or (torch.is_grad_enabled() and weight.requires_grad):
            return self.make(weight, *others)
        by_weight = _promises[0].setdefault(self, WeakTensorKeyDictionary())
        if weight not in by_weight:
            by_weight[weight] = {}
        kept: dict[tuple[Any, ...], Tensor] = by_weight[weight]
        if others not in kept:
            kept[others] = self.make(weight, *others)
        return kept[others]


@contextmanager
def frozen_weights() -> Iterator[None]:
    """A promise that no weight changes while this is open: what follows from weights is then computed once.

    It has to be a promise: not every optimiser leaves a trace in the weights that it changes (PyTorch's fused ones do
    not count as a new version of a tensor).
    """
    _promises.append({})
    try:
        yield
    finally:
        _promises.pop()


def weights_are_frozen() -> bool:
    """Whether `frozen_weights` is open."""
    return bool(_promises)


_promises: list[dict[WeightCache, WeakTensorKeyDictionary]] = []

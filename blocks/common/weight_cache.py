"""A cache for values that depend on a weight alone, such as its spectral norm, for use while the weights are frozen.

In training such a value is computed in every step. In sampling it stays the same, and computing it can cost more than
the layer that uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


class WeightCache:
    """A function of a weight whose results are kept inside `frozen_weights`, unless the weight needs a gradient.

    Args:
        compute: The function: of the weight, and of further hashable arguments.
    """

    def __init__(self, compute: Callable[..., Tensor]) -> None:
        self.compute = compute

    def __call__(self, weight: Tensor, *others: Any) -> Tensor:
        """`compute(weight, *others)`."""
        if not _caches or torch.compiler.is_compiling() or (torch.is_grad_enabled() and weight.requires_grad):
            return self.compute(weight, *others)
        by_weight = _caches[-1].setdefault(self, WeakTensorKeyDictionary())
        if weight not in by_weight:
            by_weight[weight] = {}
        results: dict[tuple[Any, ...], Tensor] = by_weight[weight]
        if others not in results:
            results[others] = self.compute(weight, *others)
        return results[others]


Results = dict[WeightCache, WeakTensorKeyDictionary]


@contextmanager
def frozen_weights(results: Results | None = None) -> Iterator[None]:
    """Keep the results of every `WeightCache` while this is open. The caller must not change any weight meanwhile.

    A change cannot be detected: PyTorch's fused optimisers, for example, do not increment a tensor's version.

    Args:
        results: Where results are kept and looked up, so that they outlive the context; None for the results of the
            surrounding `frozen_weights`, or for new ones.
    """
    surrounding = _caches[-1] if _caches else {}
    _caches.append(surrounding if results is None else results)
    try:
        yield
    finally:
        _caches.pop()


def weights_are_frozen() -> bool:
    """Whether `frozen_weights` is open."""
    return bool(_caches)


_caches: list[Results] = []

"""What follows from a weight alone, such as its spectral norm, is computed once for as long as the weight stays.

In training it follows anew in every step. Networks that only draw samples would compute the same numbers over and over,
which costs a small map more than the map itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary


class Derived:
    """A function of a weight that remembers what it gave, where no gradient is wanted.

    Args:
        make: The function, of the weight and of whatever else is passed.
    """

    def __init__(self, make: Callable[..., Tensor]) -> None:
        self.make = make
        self.kept = WeakTensorKeyDictionary()

    def __call__(self, weight: Tensor, *others: Any) -> Tensor:
        """`make(weight, *others)`; `others` are tensors that count as part of the weight, or what never changes."""
        if torch.compiler.is_compiling() or not _lasting(weight):
            return self.make(weight, *others)
        state = tuple(_state(each) for each in (weight, *others) if isinstance(each, Tensor))
        found = self.kept[weight] if weight in self.kept else None
        if found is None or found[0] != state:
            found = (state, self.make(weight, *others))
            self.kept[weight] = found
        made: Tensor = found[1]
        return made


def _lasting(weight: Tensor) -> bool:
    """Whether a weight has numbers, tells when they change, and wants no gradient now."""
    wants_gradient = torch.is_grad_enabled() and weight.requires_grad
    return type(weight) in (Tensor, nn.Parameter) and not (wants_gradient or weight.is_meta or weight.is_inference())


def _state(tensor: Tensor) -> tuple[Any, ...]:
    return tensor._version, tensor.data_ptr(), tensor.dtype, tensor.device

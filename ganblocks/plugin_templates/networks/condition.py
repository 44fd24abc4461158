"""Example condition: a learned vector for each class.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.families import Condition


class Example(Condition, kind="example"):
    """Encodes a class label as a learned vector.

    Args:
        num_classes: Number of classes; labels are integers from 0.
        dim: Features of the condition.
    """

    condition_input = "classes"
    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"num_classes": 5}},)

    def __init__(self, *, num_classes: PositiveInt, dim: PositiveInt = 64) -> None:
        super().__init__()
        self.num_classes, self.cond_dim = num_classes, dim
        self.table = nn.Parameter(torch.randn(num_classes, dim))

    def read(self, labels: Sequence[Any]) -> Int64[Tensor, " b"]:
        for label in labels:
            if not str(label).isdecimal() or int(label) >= self.num_classes:
                raise ValueError(f"{label!r} is not a class label; the classes are 0 to {self.num_classes - 1}")
        return torch.tensor([int(label) for label in labels], dtype=torch.int64)

    def forward(self, tokens: Int64[Tensor, " b"]) -> Float[Tensor, "b d"]:
        return self.table[tokens]

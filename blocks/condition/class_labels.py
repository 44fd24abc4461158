"""One-hot encoding of class labels.

Conditional generative adversarial nets, Mirza and Osindero 2014, https://arxiv.org/abs/1411.1784, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from pydantic import PositiveInt
from torch import Tensor
from torch.nn import functional as F

from blocks.common.computed_buffer import computed_buffer
from blocks.families import Condition


class ClassLabels(Condition, kind="class-labels"):
    """Encodes a class label as a one-hot vector.

    Args:
        num_classes: Number of classes; labels are integers from 0.
    """

    condition_input = "classes"
    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"num_classes": 5}},)
    one_hot: Tensor

    def __init__(self, *, num_classes: PositiveInt) -> None:
        super().__init__()
        self.cond_dim = num_classes
        computed_buffer(self, "one_hot", torch.eye, num_classes)

    def read(self, labels: Sequence[Any]) -> Int64[Tensor, " b"]:
        for label in labels:
            if not str(label).isdecimal() or int(label) >= self.cond_dim:
                raise ValueError(f"{label!r} is not a class label; the classes are 0 to {self.cond_dim - 1}")
        return torch.tensor([int(label) for label in labels], dtype=torch.int64)

    def forward(self, labels: Int64[Tensor, " b"]) -> Float[Tensor, "b d"]:
        return F.embedding(labels, self.one_hot)

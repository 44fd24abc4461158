"""Classes as conditions, one-hot.

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

from blocks.families import Condition


class ClassLabels(Condition, kind="class-labels"):
    """The class of an image, one-hot.

    Args:
        num_classes: How many classes there are; they are counted from 0.
    """

    condition_input = "classes"
    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"num_classes": 5}},)
    one_hot: Tensor

    def __init__(self, *, num_classes: PositiveInt) -> None:
        super().__init__()
        self.cond_dim = num_classes
        self.register_buffer("one_hot", torch.eye(num_classes), persistent=False)

    def read(self, said: Sequence[Any]) -> Int64[Tensor, " b"]:
        for each in said:
            if not str(each).isdigit() or int(each) >= self.cond_dim:
                raise ValueError(f"{each!r} is no class; the generator knows classes 0 to {self.cond_dim - 1}")
        return torch.tensor([int(each) for each in said])

    def forward(self, told: Int64[Tensor, " b"]) -> Float[Tensor, "b d"]:
        return F.embedding(told, self.one_hot)

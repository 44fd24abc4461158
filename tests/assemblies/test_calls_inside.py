"""A problem of a block inside a step is reported at its slot."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from assemblies import check, parse
from blocks.families import Attention, Layer
from registry import IncompatibleError
from tests import tiny
from tests.toys import installed


class Wider(Attention, kind="wider"):
    """Returns a channel too many."""

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w d"]:
        return torch.cat([x, x[..., :1]], dim=-1)


class Flat(Attention, kind="flat"):
    """Returns tokens."""

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b n c"]:
        return x.flatten(1, 2)


class Failing(Attention, kind="failing"):
    """Was built for other channels.

    Args:
        dim: Channels C of the map.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim + 1, dim)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        return self.linear(x)


class Nothing(Attention, kind="nothing"):
    """Returns nothing."""

    def forward(self, x: Float[Tensor, "b h w c"]) -> None:
        return None


class Unbuilt(Attention, kind="unbuilt"):
    """Cannot be built."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(self.dim, 3)


def problem(attention: str) -> Any:
    """The first problem of a generator with this attention in its second step."""
    first, transformer, *rest = tiny.GENERATOR["synthesis"]
    synthesis = [first, transformer | {"attention": attention}, *rest]
    with installed(Wider, Flat, Failing, Nothing, Unbuilt), pytest.raises(IncompatibleError) as error:
        check(parse(tiny.gan(generator=tiny.GENERATOR | {"synthesis": synthesis})))
    assert error.value.problems[1].location == "generator.synthesis.2"
    return error.value.problems[0]


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ("wider", "returns 17 channels; attention must keep the 16 it was given"),
        ("flat", "returns a map [1, 16, 16]; attention must keep the shape [1, 4, 4, 16] that it was given"),
        ("failing", "Failing cannot run here: "),
        ("nothing", "returns NoneType, not a tensor"),
        ("unbuilt", "Unbuilt cannot be built here: 'Unbuilt' object has no attribute 'dim'"),
    ],
)
def test_the_innermost_slot_is_named(attention: str, message: str) -> None:
    found = problem(attention)
    assert found.location == "generator.synthesis.1.attention"
    assert found.message.startswith(message)


@pytest.mark.parametrize(("output", "name"), [(None, "NoneType"), ((1, 2), "tuple")])
def test_a_layer_that_returns_no_tensor_is_named(output: Any, name: str) -> None:
    class Strange(Layer, kind="strange"):
        """Returns no tensor."""

        def __init__(self) -> None:
            super().__init__()

        def forward(self, x: Tensor, ws: Tensor | None = None) -> Any:
            return output

    first, *rest = tiny.GENERATOR["synthesis"]
    with installed(Strange), pytest.raises(IncompatibleError) as error:
        check(parse(tiny.gan(generator=tiny.GENERATOR | {"synthesis": [first, "strange", *rest]})))
    assert error.value.problems[0] == (("generator", "synthesis", 1), f"returns {name}, not a tensor")

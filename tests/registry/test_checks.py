"""The conformance suite finds what it is there for: each broken block fails the check that is about it."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.families import Attention, Resolution
from registry import Block, incompatible
from registry.testing import HARNESSES, Harness, checks
from tests.toys import ToyAttention

Map = Float[Tensor, "b h w c"]


class Sound(Attention, kind="sound"):
    """Keeps every promise.

    Args:
        dim: Channels C of the map.
        resolution: Height and width of the map.
        num_heads: Heads that share the channels evenly.
        draws: Whether chance has a say.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"num_heads": 2, "draws": True}},
        {"context": {"dim": 4, "resolution": (2, 3)}},
    )

    def __init__(self, dim: int, resolution: Resolution, *, num_heads: PositiveInt = 4, draws: bool = False) -> None:
        super().__init__()
        if resolution[0] % 2:
            raise incompatible("resolution", f"{resolution[0]} rows cannot be paired; take an even number")
        self.draws = draws
        self.proj = nn.Linear(dim, dim)
        self.unit = nn.Parameter(torch.rand(dim))

    def forward(self, x: Map) -> Map:
        noise = torch.rand_like(x) if self.draws else 0.5
        return self.proj(x).tanh() * self.unit + noise


class Twice(torch.autograd.Function):
    """A square whose second derivative is silently wrong."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0].detach() * gradient


class Undocumented(Sound, kind="undocumented"):
    """Says nothing of its arguments."""


class Changing(Sound, kind="changing"):
    __doc__ = Sound.__doc__

    def forward(self, x: Map) -> Map:
        x += 1
        return super().forward(x)


class Shrinking(Sound, kind="shrinking"):
    __doc__ = Sound.__doc__

    def forward(self, x: Map) -> Map:
        return super().forward(x)[:, 1:]


class Single(Sound, kind="single"):
    __doc__ = Sound.__doc__

    def forward(self, x: Map) -> Map:
        return super().forward(x) * torch.ones(1, dtype=torch.float32, device=x.device)


class OnlyHere(Sound, kind="only-here"):
    __doc__ = Sound.__doc__

    def forward(self, x: Map) -> Map:
        return super().forward(x) + torch.ones(x.shape[-1], dtype=x.dtype, device="cpu")


class Idle(Sound, kind="idle"):
    __doc__ = Sound.__doc__

    def forward(self, x: Map) -> Map:
        return self.proj(x)


class Once(Sound, kind="once"):
    __doc__ = Sound.__doc__

    def forward(self, x: Map) -> Map:
        return Twice.apply(super().forward(x))


class Forgetful(Sound, kind="forgetful"):
    __doc__ = Sound.__doc__

    def forward(self, x: Map) -> Map:
        return super().forward(x) + self.chance.to(x)

    def __init__(self, dim: int, resolution: Resolution, *, num_heads: PositiveInt = 4, draws: bool = False) -> None:
        super().__init__(dim, resolution, num_heads=num_heads, draws=draws)
        self.chance = torch.rand(dim)


class Shared(Sound, kind="shared"):
    __doc__ = Sound.__doc__

    def __deepcopy__(self, _memo: Any) -> Any:
        return self


class Branching(Sound, kind="branching"):
    __doc__ = Sound.__doc__

    def forward(self, x: Map) -> Map:
        return super().forward(x) * (2 if x.sum() > 0 else 1)


class Honest(Once, kind="honest"):
    __doc__ = Sound.__doc__
    twice_differentiable = False


class Palette(Block, nn.Module, family="toy-palette"):
    """Colours: x [B,N] -> [B,3]."""


class Ramp(Palette, kind="ramp"):
    """A ramp of colours.

    Args:
        size: Numbers N that come in.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, 3)

    def forward(self, x: Float[Tensor, "b n"]) -> Float[Tensor, "b 3"]:
        return self.linear(x)


def test_a_sound_block_passes_and_may_refuse_odd_sizes() -> None:
    tried = checks(Sound)
    for check in tried:
        check()
    names = [str(check) for check in tried]
    assert "attention/sound/defaults/standard/gives_the_promised_shapes" in names
    assert "attention/sound/example0/standard/compiles_to_the_same_numbers" in names
    assert not any("/odd/" in name for name in names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("block", "promise"),
    [
        (Undocumented, "is_documented"),
        (Changing, "leaves_its_inputs_alone"),
        (Shrinking, "gives_the_promised_shapes"),
        (Single, "keeps_dtype_and_device"),
        (OnlyHere, "gives_the_promised_shapes"),
        (Idle, "trains_every_parameter"),
        (Once, "differentiates_twice"),
        (Forgetful, "restores_from_its_state"),
        (Shared, "copies"),
        (Branching, "compiles_to_the_same_numbers"),
    ],
    ids=lambda value: value.kind if isinstance(value, type) else value,
)
def test_a_broken_promise_is_found(block: type[Block], promise: str) -> None:
    *_, check = (check for check in checks(block) if check.function.__name__ == promise)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        check()
    assert not isinstance(caught.value, LookupError)


def test_what_says_that_it_has_no_second_derivative_is_not_asked_for_one() -> None:
    assert "differentiates_twice" in {check.function.__name__ for check in checks(Once)}
    assert "differentiates_twice" not in {check.function.__name__ for check in checks(Honest)}


def test_a_family_of_ones_own_comes_with_a_driver() -> None:
    with pytest.raises(LookupError, match=r"toy-palette has no driver: pass one, checks\(Ramp, driver=\.\.\.\)"):
        checks(Ramp)
    harness = Harness(
        inputs=lambda block, context: {"x": torch.randn(2, context["size"])},
        shapes=lambda block, context, inputs: ((2, 3),),
        contexts={"small": {"size": 4}},
    )
    for check in checks(Ramp, harness=harness):
        check()


def test_every_family_has_a_driver() -> None:
    ours = {name for name, family in Block.families.items() if family.__module__.startswith(("blocks", "assemblies"))}
    assert ours <= set(HARNESSES)
    assert checks(ToyAttention)

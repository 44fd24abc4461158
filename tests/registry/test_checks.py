"""The conformance suite: a block without faults passes it, and each faulty block fails the check for its fault."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

import assemblies.testing
import blocks.testing
from blocks.common.shapes import check_nhwc
from blocks.families import Attention, Resolution
from registry import Block, incompatible
from registry.testing import Check, Harness, checks
from registry.testing.cases import Case
from tests.toys import ToyAttention

Map = Float[Tensor, "b h w c"]


class Sound(Attention, kind="sound"):
    """Passes every check.

    Args:
        dim: Channels C of the map.
        resolution: Height and width of the map.
        num_heads: Heads that share the channels evenly.
        draws: Whether noise is added.
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
        check_nhwc(self, x, self.proj.in_features)
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
    """Does not describe its arguments."""


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


class Cancelling(Sound, kind="cancelling"):
    __doc__ = Sound.__doc__

    def forward(self, x: Map) -> Map:
        return self.proj(x) + 0 * self.unit


class Normalized(Sound, kind="normalized"):
    __doc__ = Sound.__doc__

    def __init__(self, dim: int, resolution: Resolution, *, num_heads: PositiveInt = 4, draws: bool = False) -> None:
        super().__init__(dim, resolution, num_heads=num_heads, draws=draws)
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Map) -> Map:
        y = super().forward(x) + self.bias
        return y - y.mean(dim=(0, 1, 2))


class Declared(Normalized, kind="declared"):
    __doc__ = Sound.__doc__
    dead_parameters = ("bias",)


class Gated(Sound, kind="gated"):
    __doc__ = Sound.__doc__

    def __init__(self, dim: int, resolution: Resolution, *, num_heads: PositiveInt = 4, draws: bool = False) -> None:
        super().__init__(dim, resolution, num_heads=num_heads, draws=draws)
        nn.init.zeros_(self.unit)


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


class Sampled(Sound, kind="sampled"):
    __doc__ = Sound.__doc__

    def forward(self, x: Map) -> Map:
        return super().forward(x) - x[0].mean()


class Averaging(Sound, kind="averaging"):
    __doc__ = Sound.__doc__

    def __init__(self, dim: int, resolution: Resolution, *, num_heads: PositiveInt = 4, draws: bool = False) -> None:
        super().__init__(dim, resolution, num_heads=num_heads, draws=draws)
        self.register_buffer("mean", torch.zeros(dim))

    def forward(self, x: Map) -> Map:
        self.mean.lerp_(x.detach().mean(dim=(0, 1, 2)).to(self.mean), 0.1)
        return super().forward(x)


class Counting(Sound, kind="counting"):
    __doc__ = Sound.__doc__

    def __init__(self, dim: int, resolution: Resolution, *, num_heads: PositiveInt = 4, draws: bool = False) -> None:
        super().__init__(dim, resolution, num_heads=num_heads, draws=draws)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Map) -> Map:
        self.calls += self.training
        return super().forward(x) * self.calls.detach().clone().to(x)


class Tabled(Sound, kind="tabled"):
    __doc__ = Sound.__doc__

    def __init__(self, dim: int, resolution: Resolution, *, num_heads: PositiveInt = 4, draws: bool = False) -> None:
        super().__init__(dim, resolution, num_heads=num_heads, draws=draws)
        self.register_buffer("table", torch.arange(dim), persistent=False)

    def forward(self, x: Map) -> Map:
        return super().forward(x) + self.table.to(x)


class Fixed(Sound, kind="fixed"):
    __doc__ = Sound.__doc__

    def forward(self, x: Map) -> Map:
        return super().forward(x).reshape(len(x), *x.shape[1:])


class Unchecked(Sound, kind="unchecked"):
    __doc__ = Sound.__doc__

    def forward(self, x: Map) -> Map:
        return (self.proj(x).tanh() * self.unit).mean(dim=0) + x


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
        size: Input features N.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, 3)

    def forward(self, x: Float[Tensor, "b n"]) -> Float[Tensor, "b 3"]:
        return self.linear(x)


def test_a_sound_block_passes_and_may_refuse_odd_sizes() -> None:
    selected = checks(Sound)
    for check in selected:
        check()
    names = [str(check) for check in selected]
    assert "attention/sound/defaults/standard/gives_the_promised_shapes" in names
    assert "attention/sound/example0/standard/compiles_to_the_same_numbers" in names
    assert not any("/odd/" in name for name in names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("block", "name"),
    [
        (Undocumented, "is_documented"),
        (Changing, "leaves_its_inputs_alone"),
        (Shrinking, "gives_the_promised_shapes"),
        (Single, "keeps_dtype_and_device"),
        (OnlyHere, "gives_the_promised_shapes"),
        (Idle, "trains_every_parameter"),
        (Cancelling, "trains_every_parameter"),
        (Normalized, "trains_every_parameter"),
        (Once, "differentiates_twice"),
        (Forgetful, "restores_from_its_state"),
        (Shared, "copies"),
        (Branching, "compiles_to_the_same_numbers"),
        (Sampled, "takes_an_empty_batch"),
        (Averaging, "takes_an_empty_batch"),
        (Counting, "trains_under_checkpointing"),
        (Tabled, "loads_after_the_meta_device"),
        (Unchecked, "refuses_inputs_that_do_not_fit"),
        (Fixed, "exports"),
    ],
    ids=lambda value: value.kind if isinstance(value, type) else value,
)
def test_a_faulty_block_fails_the_check_for_its_fault(block: type[Block], name: str) -> None:
    *_, check = (check for check in checks(block) if check.function.__name__ == name)
    with pytest.raises(Exception):  # noqa: B017, PT011
        check()


@pytest.mark.parametrize("block", [Gated, Declared], ids=lambda block: block.kind)
def test_a_gate_that_starts_at_zero_and_a_declared_dead_parameter_are_no_faults(block: type[Block]) -> None:
    for check in checks(block):
        if check.function.__name__ == "trains_every_parameter":
            check()


def test_a_block_that_declares_no_second_derivative_is_not_checked_for_one() -> None:
    assert "differentiates_twice" in {check.function.__name__ for check in checks(Once)}
    assert "differentiates_twice" not in {check.function.__name__ for check in checks(Honest)}


def test_a_check_runs_on_another_device() -> None:
    devices: list[set[str]] = []

    def record(case: Case) -> None:
        module = case.build()
        tensors = (*module.parameters(), *case.inputs(module).values())
        devices.append({tensor.device.type for tensor in tensors if tensor is not None})

    check = Check(record, checks(Sound)[0].case)
    check()
    check("meta")
    assert devices == [{"cpu"}, {"meta"}]


def test_a_family_of_another_package_comes_with_a_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        LookupError,
        match=r"toy-palette has no harness: add it to HARNESSES in tests\.testing, or pass one, checks\(Ramp, harness=",
    ):
        checks(Ramp)
    harness = Harness(
        inputs=lambda block, context: {"x": torch.randn(2, context["size"])},
        shapes=lambda block, context, inputs: ((2, 3),),
        contexts={"small": {"size": 4}},
    )
    names = [str(check) for check in checks(Ramp, harness=harness)]
    for check in checks(Ramp, harness=harness):
        check()
    testing = ModuleType("tests.testing")
    testing.HARNESSES = {"toy-palette": harness}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests.testing", testing)
    assert [str(check) for check in checks(Ramp)] == names


def test_a_harness_adds_checks_of_its_family() -> None:
    def is_bounded(case: Case) -> None:
        assert case.run(case.build(), {"x": torch.zeros(2, 4)})[0].abs().max() <= 1

    harness = Harness(
        inputs=lambda block, context: {"x": torch.randn(2, context["size"])},
        shapes=lambda block, context, inputs: ((2, 3),),
        contexts={"small": {"size": 4}},
        checks=(is_bounded,),
    )
    assert "toy-palette/ramp/defaults/small/is_bounded" in [str(check) for check in checks(Ramp, harness=harness)]


@pytest.mark.parametrize(
    ("number", "axes", "advice"),
    [
        (0, 3, "returns 17 channels; attention must keep the 16 it was given, for a map of 8x8 pixels"),
        (1, 3, "returns 17 channels; attention must keep the 16 it was given, for a map of 5x7 pixels"),
        (1, 2, "returns 8 columns; attention must keep the 7 it was given, for a map of 5x7 pixels"),
    ],
)
def test_a_wrong_shape_is_reported_as_advice(number: int, axes: int, advice: str) -> None:
    def forward(self: Any, x: Map) -> Map:
        return torch.cat([x, x.narrow(axes, 0, 1)], dim=axes)

    wider = type("Wider", (ToyAttention,), {"forward": forward, "__doc__": ToyAttention.__doc__}, kind="wider")
    shapes = [check for check in checks(wider) if check.function.__name__ == "gives_the_promised_shapes"]
    with pytest.raises(AssertionError) as failure:
        shapes[number]()
    assert str(failure.value).splitlines()[0] == advice


def test_every_family_has_a_harness() -> None:
    ours = {name for name, family in Block.families.items() if family.__module__.startswith(("blocks", "assemblies"))}
    assert ours == {*blocks.testing.HARNESSES, *assemblies.testing.HARNESSES}
    assert checks(ToyAttention)

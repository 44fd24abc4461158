"""The family `schedule`: numbers that change during training, and options that are a number or a schedule.

Burn-in of gamma, learning rate and Adam's betas by a schedule: R3GAN, Huang et al. 2024,
https://arxiv.org/abs/2501.05441.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import torch
from jaxtyping import Float
from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from torch import Tensor, nn

from registry import Block, IncompatibleError, Spec
from registry.slots import SlotOf

Scheduled: TypeAlias = float | Spec
"""A number, or the spec of a schedule."""


class Schedule(Block, nn.Module, family="schedule"):
    """A number that changes during training: images shown so far [...] -> values [...]. No context."""

    def forward(self, images: Float[Tensor, ...]) -> Float[Tensor, ...]:
        raise NotImplementedError

    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        raise NotImplementedError

    def at(self, images: float) -> float:
        """The value after a number of images, computed in float64."""
        return float(self(torch.tensor(float(images), dtype=torch.float64, device="cpu")))


class ScheduledIn:
    """Annotation of an option that is a number in a range, or a schedule whose values are in it.

    Args:
        ge: Lower limit, included.
        gt: Lower limit, excluded.
        le: Upper limit, included.
        lt: Upper limit, excluded.
    """

    def __init__(
        self, *, ge: float | None = None, gt: float | None = None, le: float | None = None, lt: float | None = None
    ) -> None:
        self.number: TypeAdapter[float] = TypeAdapter(Annotated[float, Field(ge=ge, gt=gt, le=le, lt=lt)])
        self.slot = SlotOf(Schedule)

    def validate(self, value: Any) -> Scheduled:
        if isinstance(value, int | float) or _is_number(value):
            return self.number.validate_python(value)
        spec = self.slot.validate(value)
        try:
            schedule: Schedule = spec.build()
        except IncompatibleError as error:
            facts = [": ".join([".".join(str(part) for part in each.path), each.message]) for each in error.problems]
            raise PydanticCustomError("spec", "{message}", {"message": "; ".join(facts)}) from None
        for bound in schedule.bounds():
            try:
                self.number.validate_python(bound)
            except ValueError as error:
                fact = str(error.errors()[0]["msg"]).replace("Input should", "should")  # type: ignore[attr-defined]
                message = f"{spec.kind} reaches {bound:g}, and values {fact}"
                raise PydanticCustomError("spec", "{message}", {"message": message}) from None
        return spec

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        def serialize(value: Scheduled, info: Any) -> Any:
            return value.model_dump(mode=info.mode) if isinstance(value, Spec) else value

        return core_schema.no_info_plain_validator_function(
            self.validate,
            serialization=core_schema.plain_serializer_function_ser_schema(serialize, info_arg=True),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        slot = self.slot.__get_pydantic_json_schema__(schema, handler)
        return {"anyOf": [self.number.json_schema(), slot]}


def value_at(option: Scheduled, images: float) -> float:
    """The value of an option after a number of images."""
    if isinstance(option, Spec):
        schedule: Schedule = option.build()
        return schedule.at(images)
    return option


class CurrentValue:
    """The value of an option in the current training step.

    On CUDA the value of a schedule is a tensor that keeps its place, so that a CUDA graph reads each step's value.

    Args:
        option: A number or the spec of a schedule.
    """

    def __init__(self, option: Scheduled) -> None:
        self.option = option
        self.number = value_at(option, 0)
        self.tensors: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def at(self, images: int) -> None:
        """Change it to the value after a number of images."""
        if isinstance(self.option, Spec):
            self.number = value_at(self.option, images)
            for tensor in self.tensors.values():
                tensor.fill_(self.number)

    def factor(self, values: Tensor) -> float | Tensor:
        """The value, to multiply `values` with."""
        if not (values.is_cuda and isinstance(self.option, Spec)):
            return self.number
        key = values.device, values.dtype
        if key not in self.tensors:
            self.tensors[key] = torch.full((), self.number, device=values.device, dtype=values.dtype)
        return self.tensors[key]


def _is_number(value: Any) -> bool:
    """Whether a string is a number: YAML reads 1e-3, without a dot, as a string."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return isinstance(value, str)

"""Specs from Python have the limits of files: no cycles, no infinities, integers of 32 bits, short errors."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, PositiveInt

from blocks.families import Layer
from registry import Problem, SpecError, SpecValidationError
from registry.limits import MAX_DEPTH, MAX_INTEGER, AtMost, data_problems
from registry.spec_file import schema, validate
from tests.toys import TOYS, Rates, ToyAttention, ToyLayer, installed


def message(make: Any) -> str:
    with installed(*TOYS), pytest.raises(SpecValidationError) as caught:
        make()
    return str(caught.value)


def endless() -> dict[str, Any]:
    document: dict[str, Any] = {"kind": "toy-layer", "parts": []}
    document["parts"].append(document)
    return document


def deep_list(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: validate(endless(), Layer), "parts.0   contains itself; write its parts out"),
        (lambda: ToyLayer.Spec(**endless()), "parts.0.parts   contains itself"),
        (lambda: ToyLayer(8, 8, parts=deep_list(3000)), f"is nested more than {MAX_DEPTH} levels deep"),
        (lambda: ToyLayer.Spec(gain=float("inf")), "gain   should be a finite number, not inf"),
        (lambda: ToyLayer.Spec(gain="nan"), "gain   should be a finite number, not nan"),
        (lambda: ToyLayer.Spec(rates=Rates(fast=float("inf"))), "rates.fast   should be a finite number"),
        (lambda: ToyLayer.Spec(reach=2**31), "reach   should be between -(2^31 - 1) and 2^31 - 1, not 2,147,483,648"),
        (lambda: ToyLayer.Spec(reach=str(2**31)), "reach   should be between"),
        (lambda: ToyLayer.Spec(reach=10**5000), "not an integer of 16610 bits"),
        (
            lambda: ToyLayer.Spec(attention={"kind": "toy-attention", "num_heads": 2**40}),
            "attention.num_heads   should",
        ),
        (lambda: ToyLayer.Spec(notes={1: "a"}), "notes   the key 1 is not text"),
        (lambda: ToyLayer.Spec(notes={10**5000: "a"}), "notes   the key beyond 2^31 is not text"),
        (lambda: ToyLayer.Spec(notes={"a": "b\0"}), "notes.a   contains a NUL character"),
        (lambda: ToyLayer.Spec(parts=["toy-norm"] * 30_000), "has more than 20,000 values and keys"),
    ],
)
def test_data_beyond_the_limits_are_refused(make: Any, text: str) -> None:
    assert text in message(make)


def test_specs_inside_each_other_have_the_same_limit_of_depth() -> None:
    with installed(*TOYS):
        spec = ToyLayer.Spec()
        holder: Any = {"kind": "toy-layer", "attention": ToyAttention.Spec()}
        assert data_problems(spec) == data_problems(holder) == []
        assert data_problems(deep_list(MAX_DEPTH - 1)) == []
        assert data_problems(deep_list(MAX_DEPTH)) != []


def test_a_value_may_occur_twice_side_by_side() -> None:
    with installed(*TOYS):
        shared = {"kind": "toy-attention"}
        assert validate({"kind": "toy-layer", "attention": shared, "parts": [shared, shared]}, Layer)


def test_an_upper_limit_says_its_reason_and_is_in_the_schema() -> None:
    class Options(BaseModel):
        depth: Annotated[PositiveInt, AtMost(10, "each level is a network of its own")] = 1

    with pytest.raises(ValueError, match="should be at most 10, not 1,000,000: each level is a network of its own"):
        Options(depth=1_000_000)
    assert Options.model_json_schema()["properties"]["depth"]["maximum"] == 10


def test_the_schema_of_a_document_has_the_limit_of_integers() -> None:
    with installed(*TOYS):
        reach = schema(Layer)["$defs"]["layer.toy-layer"]["properties"]["reach"]["anyOf"]
    assert reach[0] == {"type": "integer", "minimum": -MAX_INTEGER, "maximum": MAX_INTEGER}


def test_an_error_lists_20_problems_and_counts_the_rest() -> None:
    lines = str(SpecError([Problem(("a", index), "is wrong") for index in range(31)])).splitlines()
    assert lines[0] == "The spec is wrong (31 problems)"
    assert lines[20] == "  a.19   is wrong"
    assert lines[21:] == ["  and 11 more problems; mend these first"]
    assert "more" not in str(SpecError([Problem(("a", index), "is wrong") for index in range(20)]))


def test_long_names_and_values_are_cut_and_escaped() -> None:
    text = message(lambda: ToyLayer.Spec(**{"x\x1b[2J" + "y" * 9000: 1}, mode="z" * 9000))
    assert "\x1b" not in text
    assert len(text) < 1000

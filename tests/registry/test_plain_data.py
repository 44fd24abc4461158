"""YAML and JSON are read within limits: whatever a text contains, the result is data or one clear error, soon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blocks.families import Layer
from registry import SpecValidationError
from registry.limits import MAX_DEPTH, MAX_VALUES
from registry.plain_data import parse
from registry.spec_file import read

DEEP = f"nested more than {MAX_DEPTH} levels deep"
MANY = f"more than {MAX_VALUES:,} values and keys"


def expansion(levels: int) -> str:
    """Each list has nine aliases of the one before."""
    lines = [f"b{i}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]" for i in range(levels)]
    return "\n".join(["a: &a0 [x, y]", *lines])


def chain(levels: int) -> str:
    return "\n".join(["a: &a0 [x]", *(f"b{i}: &a{i + 1} [*a{i}]" for i in range(levels))])


def problems(content: bytes | str, format: str = "yaml") -> dict[str, str]:
    with pytest.raises(SpecValidationError) as caught:
        parse(content, format, "my.yaml")
    assert str(caught.value).startswith("my.yaml is not valid")
    return {problem.location: problem.message for problem in caught.value.problems}


def test_plain_data_are_read() -> None:
    text = "a: [1, 0x10, 1_000, -3, 1.5, 1.0e-3, true, no, ~, '1', \"x\", 1e-8, 2020-01-01]\n"
    expected = [1, 16, 1000, -3, 1.5, 1e-3, True, False, None, "1", "x", "1e-8", "2020-01-01"]
    assert parse(text) == {"a": expected}
    assert parse("a: 1") == parse('{"a": 1}', "json") == parse(b"\xef\xbb\xbfa: 1") == {"a": 1}
    assert parse("") is None


def test_aliases_and_merges_are_read() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {<<: [*a, {x: 5, z: 3}], w: *a}\n"
    assert parse(text) == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 3, "y": 2},
        "c": {"x": 1, "y": 2, "z": 3, "w": {"x": 1, "y": 2}},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (expansion(12), MANY),
        (chain(5000), DEEP),
        ("a: " + "[" * 100_000, DEEP),
        ("a: " + "{a: " * 100_000, DEEP),
        ("- " * 5000, DEEP),
        ("".join(f"k{i}: 1\n" for i in range(MAX_VALUES)), MANY),
        ("a: [" + "1, " * MAX_VALUES + "]", MANY),
        ("a: &a [*a]", "line 1, column 8: the alias stands for a value that contains it"),
        ("a: *b", "found undefined alias 'b'"),
        ('a: "\\UFFFFFFFF"', "is neither YAML nor JSON"),
        ("a: \x07", "special characters are not allowed"),
        ("%YAML " + "9" * 5000 + ".1\n---\na: 1", "is neither YAML nor JSON"),
        ("a: 1\n---\nb: 2", "another document"),
        ("#" * 2**21, "has more than 1,048,576 bytes"),
        ("[a]: 1", "has a list or mapping as a key"),
        ("1: a", "the key 1 is not text"),
        ("yes: a", "the key True is not text"),
    ],
    ids=lambda text: text[:20],
)
def test_hostile_yaml_is_one_clear_error(text: str, message: str) -> None:
    assert message in problems(text)["(top)"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, DEEP),
        ('{"a": ' * 100_000, DEEP),
        ("[" + "1, " * MAX_VALUES + "1]", MANY),
        ('{"a": 007}', "is not JSON: line 1, column 8"),
    ],
    ids=lambda text: text[:20],
)
def test_hostile_json_is_one_clear_error(text: str, message: str) -> None:
    assert message in problems(text, "json")["(top)"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("9" * 5000, "is an integer of 5,000 digits"),
        ("99999999999", "should be between -(2^31 - 1) and 2^31 - 1, not 99,999,999,999"),
        (".inf", "should be a finite number, not inf"),
        (".nan", "should be a finite number, not nan"),
        ("1.0e+999", "should be a finite number, not inf"),
        ("!!int foo", "should be an integer, not foo"),
        ("017", "should be an integer, not 017"),
        ("1:30", "should be an integer, not 1:30"),
        ("!!float x", "should be a number, not x"),
        ("!!bool x", "should be true or false, not x"),
        ("!!python/object/apply:os.system [x]", "has the tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
        ("!!set {x}", "has the tag 'tag:yaml.org,2002:set'"),
        ("{<<: 3}", "merges by << what is not a mapping"),
        ('"\\0"', "contains a NUL character"),
        ('"\\ud800"', "half of a surrogate pair"),
        ("x" * 20_000, "is a text of 20,000 characters"),
        ("{b: 1, c: 2, b: 3}", "b: is given twice"),
    ],
)
def test_a_refused_value_of_yaml_is_named_by_its_place(value: str, message: str) -> None:
    found = problems(f"a: {value}\nz: 017")
    assert message in "\n".join(f"{place.removeprefix('a.')}: {text}" for place, text in found.items())
    assert set(found) in ({"a", "z"}, {"a.b", "z"})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("NaN", "should be a finite number, not NaN"),
        ("-Infinity", "should be a finite number, not -Infinity"),
        ("1e999", "should be a finite number, not inf"),
        ("9" * 5000, "is an integer of 5,000 digits"),
        ("-99999999999", "should be between"),
        ('"\\u0000"', "contains a NUL character"),
    ],
)
def test_a_refused_value_of_json_is_named_by_its_place(value: str, message: str) -> None:
    found = problems('{"a": [{"b": ' + value + '}], "c": 1, "c": 2}', "json")
    assert message in found["a.0.b"]
    assert found["c"] == "is given twice; remove one of the two"


@pytest.mark.parametrize("name", ["a.yaml", "a.json"])
def test_a_spec_file_is_read_within_the_limits(tmp_path: Path, name: str) -> None:
    value: Any = {"kind": "conv"}
    for _ in range(300):
        value = {"kind": "residual", "layer": value}
    (tmp_path / name).write_text(json.dumps(value))
    with pytest.raises(SpecValidationError, match=DEEP):
        read(tmp_path / name, Layer)

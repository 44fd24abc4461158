"""Reads YAML and JSON as plain data, within the limits of specs; what is refused is named by its place.

A text may be hostile: aliases of aliases that stand for billions of values, nesting without end, integers of thousands
of digits. Data are what all tools read alike: keys are texts and occur once, numbers are finite.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import yaml
from yaml.composer import ComposerError

from registry.errors import Problem, SpecValidationError
from registry.limits import MAX_DEPTH, MAX_INTEGER, MAX_VALUES, Refused, data_problems
from registry.text import excerpt

MAX_BYTES = 2**20
MAX_DIGITS = 20
TOO_DEEP = f"is nested more than {MAX_DEPTH} levels deep; use fewer levels"
TRUTHS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


def parse(content: bytes | str, format: str = "yaml", subject: str = "", max_integer: int = MAX_INTEGER) -> Any:
    """The data in a text.

    Args:
        content: The text; bytes are UTF-8.
        format: "yaml" or "json".
        subject: What the error message calls it, such as a file name.
        max_integer: The largest magnitude of an integer.

    Raises:
        SpecValidationError: It has another format, or contains what specs may not contain; all problems are listed.
    """
    if len(content) > MAX_BYTES:
        raise _invalid(
            f"has more than {MAX_BYTES:,} bytes, the most that a spec may have; is it another file?", subject
        )
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        data = _parse_json(text) if format == "json" else _parse_yaml(text)
    except UnicodeDecodeError:
        raise _invalid("is not a text file; a spec is YAML or JSON", subject) from None
    except json.JSONDecodeError as error:
        raise _invalid(f"is not JSON: line {error.lineno}, column {error.colno}: {error.msg}", subject) from None
    except yaml.MarkedYAMLError as error:
        position = "" if (mark := error.problem_mark) is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        fact = f"is neither YAML nor JSON: {position}{excerpt(error.problem or error, 200)}"
        raise _invalid(fact, subject) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # such as the escape "\UFFFFFFFF"
        raise _invalid(f"is neither YAML nor JSON: {excerpt(error, 200)}", subject) from None
    except RecursionError:
        raise _invalid(TOO_DEEP, subject) from None
    if problems := data_problems(data, max_integer):
        raise SpecValidationError(problems, subject)
    return data


def _invalid(fact: str, subject: str) -> SpecValidationError:
    return SpecValidationError([Problem((), fact)], subject)


def _parse_json(text: str) -> Any:
    return json.loads(
        text,
        object_pairs_hook=_mapping,
        parse_int=_integer,
        parse_constant=lambda name: Refused(f"should be a finite number, not {name}"),
    )


def _mapping(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key, value in pairs:
        mapping[key] = Refused("is given twice; remove one of the two") if key in mapping else value
    return mapping


def _integer(text: str) -> Any:
    if len(text) > MAX_DIGITS:
        return Refused(f"is an integer of {len(text):,} digits; sizes and counts have at most 10")
    return int(text.replace("_", ""), 0)


def _parse_yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    return None if node is None else _Values().value(node)


class _Size(NamedTuple):
    values: int
    levels: int


class _Loader(yaml.SafeLoader):
    """Composes nodes and counts their values; an alias counts as all that it stands for."""

    def __init__(self, text: str) -> None:
        self.values = self.depth = self.deepest = 0
        self.sizes: dict[int, _Size] = {}  # by the id of a complete node
        super().__init__(text)

    def compose_node(self, parent: Any, index: Any) -> Any:
        alias, mark = self.check_event(yaml.AliasEvent), self.peek_event().start_mark
        values, deepest = self.values, self.deepest
        self.depth += 1
        self.deepest = self.depth
        if self.depth > MAX_DEPTH + 1:
            raise ComposerError(None, None, TOO_DEEP, mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if alias:
            if id(node) not in self.sizes:
                raise ComposerError(None, None, "the alias stands for a value that contains it", mark)
            self.values += self.sizes[id(node)].values
            self.deepest = self.depth + self.sizes[id(node)].levels
        else:
            self.values += 1
            self.sizes[id(node)] = _Size(self.values - values, self.deepest - self.depth)
        self.deepest = max(self.deepest, deepest)
        if self.deepest > MAX_DEPTH + 1:
            raise ComposerError(None, None, TOO_DEEP, mark)
        if self.values > MAX_VALUES:
            fact = f"more than {MAX_VALUES:,} values and keys, where an alias counts as all that it stands for"
            raise ComposerError(None, None, fact, mark)
        return node


class _Values:
    """Converts nodes to values; a node with several aliases once."""

    def __init__(self) -> None:
        self.known: dict[int, Any] = {}

    def value(self, node: Any) -> Any:
        if id(node) not in self.known:
            self.known[id(node)] = self.convert(node)
        return self.known[id(node)]

    def convert(self, node: Any) -> Any:
        tag = node.tag.removeprefix("tag:yaml.org,2002:")
        if tag == "map" and isinstance(node, yaml.MappingNode):
            return self.mapping(node)
        if tag == "seq" and isinstance(node, yaml.SequenceNode):
            return [self.value(each) for each in node.value]
        if isinstance(node, yaml.ScalarNode) and tag in ("null", "bool", "int", "float", "str", "timestamp", "value"):
            return _scalar(tag, node.value)
        return Refused(f"has the tag {excerpt(repr(node.tag))}, which a spec cannot have; remove it")

    def mapping(self, node: Any) -> Any:
        merged: dict[Any, Any] = {}
        pairs = []
        for key_node, value_node in node.value:
            key, value = self.value(key_node), self.value(value_node)
            if key_node.tag == "tag:yaml.org,2002:merge":
                for each in reversed(value if isinstance(value, list) else [value]):
                    if not isinstance(each, dict):
                        return Refused("merges by << what is not a mapping; name a mapping, such as *defaults")
                    merged |= each
            elif isinstance(key, dict | list):
                return Refused("has a list or mapping as a key; keys are texts")
            else:
                pairs.append((key, value))
        return merged | _mapping(pairs)


def _scalar(tag: str, text: str) -> Any:
    """The value of a scalar; texts such as 017 and 1:30, in which YAML 1.1 means octal and base 60, are no numbers."""
    try:
        match tag:
            case "null":
                return None
            case "bool":
                return TRUTHS[text.lower()]
            case "int":
                return _integer(text)
            case "float":
                return float(text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
            case _:
                return text
    except (KeyError, ValueError):
        number = {"int": "an integer", "float": "a number", "bool": "true or false"}[tag]
        return Refused(f"should be {number}, not {excerpt(text)}; a text is written in quotes")

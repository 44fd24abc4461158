"""Specs as YAML for people: options that differ from their defaults, each with its description at its first mention."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from registry import Spec
from registry.text import escaped, parse_docstring

WIDTH = 110
INDENT = "  "


def commented_yaml(spec: Spec, header: str = "") -> str:
    """A document that reads back to a spec equal to `spec`.

    Args:
        spec: The spec.
        header: A text at the top, as comments; each of its lines is wrapped.
    """
    lines = [line for paragraph in header.splitlines() for line in _comment(paragraph, "")]
    return "\n".join([*lines, *_Writer().mapping(spec, spec.to_dict(), "")]).lstrip() + "\n"


class _Writer:
    """Writes values as lines; comments what has not been mentioned yet."""

    def __init__(self) -> None:
        self.mentioned: set[tuple[type, str]] = set()

    def mapping(self, value: BaseModel, data: Mapping[str, Any], indent: str) -> Iterator[str]:
        """A line or more for each option of a spec or group."""
        for name, option in _changed(value):
            yield from self._comment_on(value, name, indent)
            text = _flow(_changed_data(option, data[name]))
            if len(indent) + len(name) + 2 + len(text) <= WIDTH and not self._has_news(option):
                yield f"{indent}{name}: {text}"
            elif isinstance(option, BaseModel):
                yield f"{indent}{name}:"
                yield from self.mapping(option, data[name], indent + INDENT)
            elif isinstance(option, tuple) and any(isinstance(each, BaseModel) for each in option):
                yield f"{indent}{name}:"
                yield from self._items(option, data[name], indent + INDENT)
            elif isinstance(option, Mapping):  # plain data, such as the configuration of a text encoder
                yield f"{indent}{name}:"
                lines = yaml.safe_dump(data[name], sort_keys=False, width=float("inf"), default_flow_style=None)
                yield from textwrap.indent(lines, indent + INDENT).splitlines()
            else:
                yield f"{indent}{name}: {text}"

    def _items(self, values: tuple[Any, ...], data: list[Any], indent: str) -> Iterator[str]:
        for value, plain in zip(values, data, strict=True):
            text = _flow(_changed_data(value, plain))
            if not isinstance(value, BaseModel) or (len(indent) + 2 + len(text) <= WIDTH and not self._has_news(value)):
                yield f"{indent}- {text}"
                continue
            lines = list(self.mapping(value, plain, indent + INDENT))
            first = next(index for index, line in enumerate(lines) if not line.lstrip().startswith("#"))
            yield from (line.removeprefix(INDENT) for line in lines[:first])
            yield f"{indent}- {lines[first].lstrip()}"
            yield from lines[first + 1 :]

    def _comment_on(self, value: BaseModel, name: str, indent: str) -> Iterator[str]:
        owner = _owner(value, name)
        if owner in self.mentioned:
            return
        self.mentioned.add(owner)
        if not indent:
            yield ""
        yield from _comment(_description(value, name), indent)

    def _has_news(self, value: Any) -> bool:
        """Whether anything inside a value has a description that has not been written yet."""
        if isinstance(value, tuple):
            return any(self._has_news(each) for each in value)
        if not isinstance(value, BaseModel):
            return False
        return any(
            (_owner(value, name) not in self.mentioned and bool(_description(value, name))) or self._has_news(option)
            for name, option in _changed(value)
        )


def _changed(value: BaseModel) -> list[tuple[str, Any]]:
    """The kind of a spec, what is required, and the options that differ from their defaults."""
    if isinstance(value, Spec):
        return [("kind", value.kind), *((str(name), each) for name, each in value.__repr_args__() if name != "kind")]
    fields = type(value).model_fields
    required = {name: getattr(value, name) for name, field in fields.items() if field.is_required()}
    plain = type(value)(**required)
    return [(name, each) for name, each in value if name in required or each != getattr(plain, name)]


def _changed_data(value: Any, data: Any) -> Any:
    """The plain data of a value without what has its default."""
    if isinstance(value, BaseModel) and isinstance(data, Mapping):
        changed = {name: _changed_data(option, data[name]) for name, option in _changed(value)}
        return value.kind if isinstance(value, Spec) and list(changed) == ["kind"] else changed
    if isinstance(value, tuple) and isinstance(data, list):
        return [_changed_data(each, plain) for each, plain in zip(value, data, strict=True)]
    return data


def _owner(value: BaseModel, name: str) -> tuple[type, str]:
    """The class that declares an option: a block, a group of options, or the family of a block."""
    declared = next(each for each in reversed(type(value).__mro__) if name in getattr(each, "model_fields", ()))
    return (type(value) if name == "kind" else declared, name)


def _description(value: BaseModel, name: str) -> str:
    if isinstance(value, Spec) and name == "kind":
        return parse_docstring(value.block.__doc__)[0]
    return type(value).model_fields[name].description or ""


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        escaped(" ".join(text.split())), WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
    )


def _flow(data: Any) -> str:
    """Plain data on one line."""
    text = yaml.safe_dump(data, sort_keys=False, width=float("inf"), default_flow_style=True)
    return text.removesuffix("\n").removesuffix("\n...")

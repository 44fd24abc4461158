"""Values of documents by dotted paths such as `generator.synthesis.3.dim`: changes and differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from registry import Problem, SpecValidationError
from registry.errors import nearest
from registry.plain_data import parse
from registry.text import excerpt

ABSENT = "-"


class Difference(NamedTuple):
    """A path at which two documents differ, with both values; `ABSENT` where a document has no value."""

    path: str
    first: Any
    second: Any


def with_settings(document: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """A copy of a document with values replaced.

    Args:
        document: Plain data.
        settings: Each `path=value`. A path joins the names of options, and positions in lists, by dots; the value is
            YAML. A block that the document names by its kind alone may get options.

    Raises:
        SpecValidationError: A setting has no value, or its path leads nowhere; all problems are listed.
    """
    changed: dict[str, Any] = deepcopy(dict(document))
    problems = []
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            problems.append(
                Problem(("--set",), f"{excerpt(setting, 60)!r} should be path=value, such as batch_size=64")
            )
            continue
        try:
            value = parse(text, subject=f"--set {excerpt(path, 60)}")
            _replace(changed, tuple(path.split(".")), value)
        except SpecValidationError as error:
            problems += [problem if problem.path else problem.under(*path.split(".")) for problem in error.problems]
    if problems:
        raise SpecValidationError(problems, "--set")
    return changed


def differences(first: Any, second: Any, path: str = "") -> Iterator[Difference]:
    """The paths at which two documents in plain data differ. Lists are aligned by their longest common parts."""
    if isinstance(first, Mapping) and isinstance(second, Mapping) and first.get("kind") == second.get("kind"):
        for name in [*first, *(name for name in second if name not in first)]:
            yield from differences(
                first.get(name, ABSENT), second.get(name, ABSENT), f"{path}.{name}" if path else name
            )
    elif _has_mappings(first) and _has_mappings(second):
        yield from _list_differences(first, second, path)
    elif first != second:
        yield Difference(path, first, second)


def _list_differences(first: list[Any], second: list[Any], path: str) -> Iterator[Difference]:
    matcher = SequenceMatcher(None, [repr(each) for each in first], [repr(each) for each in second], autojunk=False)
    for tag, first_start, first_end, second_start, second_end in matcher.get_opcodes():
        if tag == "equal":
            continue
        for offset in range(max(first_end - first_start, second_end - second_start)):
            one, other = first_start + offset, second_start + offset
            before = first[one] if one < first_end else ABSENT
            after = second[other] if other < second_end else ABSENT
            position = one if one < first_end else other
            yield from differences(before, after, f"{path}.{position}")


def _has_mappings(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(each, Mapping) for each in value)


def _replace(data: Any, path: tuple[str, ...], value: Any) -> None:
    *parents, last = path
    for depth, name in enumerate(parents):
        key = _key(data, name, path[:depth])
        if isinstance(data[key], str):  # a block by its kind alone
            data[key] = {"kind": data[key]}
        data = data[key]
    if isinstance(data, dict):
        data[last] = value  # validation names an option that the block does not have
    else:
        data[_key(data, last, path[:-1])] = value


def _key(data: Any, name: str, parent: tuple[str, ...]) -> Any:
    """The key of a container.

    Raises:
        SpecValidationError: It has no such key.
    """
    if isinstance(data, dict):
        if name not in data:
            raise SpecValidationError(
                [Problem((*parent, name), f"is not in the document; {nearest(name, list(data))}")]
            )
        return name
    if isinstance(data, list):
        if not name.isdecimal() or int(name) >= len(data):
            fact = f"should be a position from 0 to {len(data) - 1}" if data else "the list is empty"
            raise SpecValidationError([Problem((*parent, name), fact)])
        return int(name)
    raise SpecValidationError([Problem((*parent, name), f"{excerpt(data, 60)} has no options")])

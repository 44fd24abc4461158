"""Translates pydantic's errors to ours: short messages, the nearest valid names, and paths into the document.

The options of named data sets are validated here too, since plugins of all packages need them with the same messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from registry.errors import Problem, SpecValidationError, nearest
from registry.text import excerpt

# pydantic's names for the members of a union, which are not part of the path in a document
_UNION_MEMBER = re.compile(
    r"(int|float|str|bool|none|constrained-\w+|function-\w+|literal|list|tuple|dict|lax-or-strict)(\[.*\])?"
)


class DataSetOptions(BaseModel):
    """Options of a named data set, as `--data 'NAME?option=value&option=value'` gives them; unknown ones are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def chosen(cls, options: Mapping[str, str]) -> Self:
        """The options, validated.

        Raises:
            ValueError: An option is unknown, is missing, or has an invalid value.
        """
        try:
            return cls.model_validate({name.replace("-", "_"): value for name, value in options.items()})
        except ValidationError as error:
            problems = []
            for detail in _details(error):
                name = str(detail["loc"][0])
                unknown = f"no such option; {nearest(name, [*cls.model_fields])}"
                problems.append(f"{name}: {unknown if detail['type'] == 'extra_forbidden' else _message(detail)}")
            raise ValueError("; ".join(problems)) from None


def validation_error(error: ValidationError, subject: str) -> SpecValidationError:
    """A pydantic error as ours: all problems, each with its path."""
    messages: dict[tuple[str | int, ...], list[str]] = {}
    for detail in _details(error):
        path = tuple(part for part in detail["loc"] if isinstance(part, int) or not _UNION_MEMBER.fullmatch(part))
        messages.setdefault(path, []).append(_message(detail))
    problems = [Problem(path, " or ".join(dict.fromkeys(texts))) for path, texts in messages.items()]
    return SpecValidationError(problems, subject)


def in_plain_words(cls: type[BaseModel], error: ValidationError) -> ValidationError:
    """The same pydantic error with our messages, so that a spec inside a spec is translated once."""
    details = []
    for detail in _details(error):
        message, path = _message(detail), detail["loc"]
        if detail["type"] == "extra_forbidden" and (owner := _model_at(cls, path[:-1])) is not None:
            valid = [name for name in owner.model_fields if name != "kind"]
            kind = cls.model_fields["kind"].default if owner is cls else path[-2]
            message = f"{kind} has no such option; {nearest(str(path[-1]), valid)}"
        # passed as a parameter: the message itself would be a template, and braces in it placeholders
        translated = PydanticCustomError("spec", "{message}", {"message": message})
        details.append(InitErrorDetails(type=translated, loc=path, input=detail["input"]))
    return ValidationError.from_exception_data(cls.__name__, details)


def as_validation_error(cls: type[BaseModel], problems: Iterable[Problem]) -> ValidationError:
    """Problems as a pydantic error, so that a validator of pydantic can raise them."""
    return ValidationError.from_exception_data(
        cls.__name__,
        [
            InitErrorDetails(type=PydanticCustomError("spec", "{message}", {"message": text}), loc=path, input=None)
            for path, text in problems
        ],
    )


def _details(error: ValidationError) -> Iterator[Any]:
    """The error's details, without wrong ones: pydantic does not count invalid items, and so calls [4] too short."""
    for detail in error.errors(include_url=False):
        if detail["type"] != "too_short" or len(detail["input"]) < detail["ctx"]["min_length"]:
            yield detail


def _model_at(model: type[BaseModel], path: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The model that a path of field names leads to."""
    for name in path:
        field = model.model_fields.get(str(name))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return None
        model = field.annotation
    return model


def _message(detail: Any) -> str:
    kind, value, limits = detail["type"], detail.get("input"), detail.get("ctx", {})
    if kind == "spec":
        return str(detail["msg"])
    if kind == "missing":
        return "is required"
    if kind == "value_error":
        return str(limits["error"])
    if kind in ("too_long", "too_short"):
        bound, number = ("at most", limits["max_length"]) if kind == "too_long" else ("at least", limits["min_length"])
        return f"should have {bound} {number} item{'s' if number != 1 else ''}, not {shown(value)}"
    message = re.sub(r", unable to parse string as an? \w+", "", str(detail["msg"]))
    message = message.replace("Input should be", "should be").replace("a valid tuple", "a list")
    message = message[0].lower() + message[1:]
    return f"{message}, not {shown(value)}" if isinstance(value, str | int | float | list | tuple) else message


def shown(value: Any) -> str:
    """A value of a spec in a message."""
    return excerpt(repr(value), 200)

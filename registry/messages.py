"""What pydantic finds wrong with a spec, in our words: plain, with the nearest valid names, at paths one can follow."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from registry.errors import Problem, SpecValidationError, nearest

# What pydantic calls the members of a union, which are no part of a path that a reader could follow.
_UNION_MEMBER = re.compile(
    r"(int|float|str|bool|none|constrained-\w+|function-\w+|literal|list|tuple|dict|lax-or-strict)(\[.*\])?"
)


def validation_error(error: ValidationError, subject: str) -> SpecValidationError:
    """A pydantic error as ours: all problems with paths, no noise."""
    found: dict[tuple[str | int, ...], list[str]] = {}
    for detail in error.errors(include_url=False):
        path = tuple(part for part in detail["loc"] if isinstance(part, int) or not _UNION_MEMBER.fullmatch(part))
        found.setdefault(path, []).append(_message(detail))
    return SpecValidationError(
        [Problem(path, " or ".join(dict.fromkeys(said))) for path, said in found.items()], subject
    )


def in_plain_words(cls: type[BaseModel], error: ValidationError) -> ValidationError:
    """The same error with our messages, so that specs inside specs need no second translation."""
    details = []
    for detail in error.errors(include_url=False):
        message, path = _message(detail), detail["loc"]
        if detail["type"] == "extra_forbidden" and (owner := _model_at(cls, path[:-1])) is not None:
            valid = [name for name in owner.model_fields if name != "kind"]
            kind = cls.model_fields["kind"].default if owner is cls else path[-2]
            message = f"{kind} has no such option; {nearest(str(path[-1]), valid)}"
        # a message is no template: braces in it must survive
        escaped = PydanticCustomError("spec", "{message}", {"message": message})
        details.append(InitErrorDetails(type=escaped, loc=path, input=detail["input"]))
    return ValidationError.from_exception_data(cls.__name__, details)


def _model_at(model: type[BaseModel], path: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The model that a path of field names leads to."""
    for name in path:
        field = model.model_fields.get(str(name))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return None
        model = field.annotation
    return model


def _message(detail: Any) -> str:
    kind, given, limits = detail["type"], detail.get("input"), detail.get("ctx", {})
    if kind == "spec":
        return str(detail["msg"])
    if kind == "missing":
        return "is required"
    if kind == "value_error":
        return str(limits["error"])
    if kind in ("too_long", "too_short"):
        many, number = ("at most", limits["max_length"]) if kind == "too_long" else ("at least", limits["min_length"])
        return f"should have {many} {number} item{'s' if number != 1 else ''}, not {given!r}"
    message = re.sub(r", unable to parse string as an? \w+", "", str(detail["msg"]))
    message = message.replace("Input should be", "should be").replace("a valid tuple", "a list")
    return (
        f"{message[0].lower()}{message[1:]}, not {given!r}"
        if isinstance(given, str | int | float | list | tuple)
        else message
    )

"""Options declared once, as the fields of a pydantic model, for Python functions and for commands.

A function that is decorated with `accepts(Model)` takes the fields as keyword arguments; `ganblocks.cli.options` makes
command-line options of them. Descriptions, bounds and defaults are those of the fields.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ganblocks.errors import UsageError

NUM_SEEDS = 2**64  # torch.Generator takes seeds below this
ResizeFilter = Literal["lanczos", "bicubic", "bilinear", "box"]  # as assemblies.gan, which imports torch


class Flag(NamedTuple):
    """How a field appears on the command line.

    Args:
        panel: The group of options in `--help` that it belongs to.
        names: Its spellings, such as ("--class",); by default the field's name with hyphens.
        metavar: What stands for its value in `--help`.
        type: The type that the command line passes, where a validator of the field converts it; by default the field's.
        default: Words for a default that is chosen later, such as "the document's".
    """

    panel: str
    names: tuple[str, ...] = ()
    metavar: str | None = None
    type: Any = None
    default: str | None = None


class Options(BaseModel):
    """A set of options. Fields that carry a `Flag` are options of commands too."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def of(cls, options: Self | None = None, changes: Mapping[str, Any] | None = None) -> Self:
        """The options with some changed, validated.

        Raises:
            UsageError: A name or a value is not valid; all of them are listed.
        """
        values = {} if options is None else {name: getattr(options, name) for name in options.model_fields_set}
        try:
            return cls(**(values | dict(changes or {})))
        except ValidationError as error:
            raise UsageError("\n".join(_message(cls, problem) for problem in error.errors())) from None

    @classmethod
    def flags(cls) -> dict[str, Flag]:
        """The command line's options, by field."""
        fields = {name: [each for each in field.metadata if isinstance(each, Flag)] for name, field in _fields(cls)}
        return {name: flags[0] for name, flags in fields.items() if flags}


def accepts(model: type[Options]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let callers of a function pass the fields of `model` as keyword arguments, or `options=`, or both.

    The function itself receives one validated `model` as its keyword argument `options`. Its signature and docstring
    list the fields.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        own = [each for each in inspect.signature(function).parameters.values() if each.name != "options"]
        arguments = {each.name for each in own}

        @wraps(function)
        def call(*args: Any, options: Options | None = None, **keywords: Any) -> Any:
            changes = {name: keywords.pop(name) for name in list(keywords) if name not in arguments}
            return function(*args, **keywords, options=model.of(options, changes))

        keyword = inspect.Parameter.KEYWORD_ONLY
        fields = [
            inspect.Parameter(name, keyword, default=field.get_default(), annotation=field.annotation)
            for name, field in _fields(model)
        ]
        whole = inspect.Parameter("options", keyword, default=None, annotation=model)
        call.__signature__ = inspect.signature(function).replace(parameters=[*own, *fields, whole])  # type: ignore[attr-defined]
        call.__doc__ = _documented(inspect.getdoc(function) or "", model)
        return call

    return decorate


def _fields(model: type[Options]) -> list[tuple[str, Any]]:
    return list(model.model_fields.items())


def _documented(text: str, model: type[Options]) -> str:
    """A docstring whose `Args:` go on with the fields of the model."""
    defaults = {name: f" Default: {flag.default}." for name, flag in model.flags().items() if flag.default}
    lines = [f"    {name}: {field.description}{defaults.get(name, '')}" for name, field in _fields(model)]
    lines.append(f"    options: All of these at once, as `{model.__name__}`.")
    head, separator, tail = text.partition("\n\nRaises:")
    return f"{head}\n" + "\n".join(lines) + separator + tail


def _message(model: type[Options], problem: Any) -> str:
    name = str(problem["loc"][0]) if problem["loc"] else model.__name__
    if problem["type"] == "extra_forbidden":
        return f"{name}: no such option; valid: {', '.join(model.model_fields)}"
    reason = str(problem["msg"]).removeprefix("Value error, ")
    return f"{name}: {reason[:1].lower()}{reason[1:]}, but it is {problem['input']!r}"

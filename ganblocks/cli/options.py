"""Command-line options from the fields of an `Options` model, grouped by panel."""

from __future__ import annotations

import glob
import inspect
import os
import re
import shlex
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args, get_type_hints

import typer
from annotated_types import Ge, Le

from ganblocks.options import Flag, Options
from ganblocks.sampling.options import OUTPUT


def complete_presets(incomplete: str) -> list[tuple[str, str]]:
    """The presets that begin like that, with their summaries, then files and folders."""
    from ganblocks import describe

    presets = [(row["preset"], row["summary"]) for row in describe.presets()]
    return [each for each in presets if each[0].startswith(incomplete)] + complete_files(incomplete)


def complete_files(incomplete: str) -> list[tuple[str, str]]:
    """Folders, and files of documents and models."""
    paths = sorted(glob.glob(f"{glob.escape(incomplete)}*"))
    return [(path, "") for path in paths if os.path.isdir(path) or path.endswith(SOURCES)]


def complete_kinds(incomplete: str) -> list[tuple[str, str]]:
    """The families and kinds of blocks that begin like that, with their summaries."""
    from ganblocks import describe

    rows = describe.families()
    named = [(row["family"], row["summary"]) for row in rows]
    named += [(block["kind"], block["summary"]) for row in rows for block in row["kinds"]]
    return [each for each in dict(named).items() if each[0].startswith(incomplete)]


def complete_families(incomplete: str) -> list[tuple[str, str]]:
    """The families of blocks that begin like that, with their summaries."""
    from ganblocks import describe

    return [(row["family"], row["summary"]) for row in describe.families() if row["family"].startswith(incomplete)]


SOURCES = (".yaml", ".yml", ".json", ".safetensors")
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=OUTPUT)]
ModelArgument: TypeAlias = Annotated[
    str, typer.Argument(help="A run folder or a model's .safetensors file.", metavar="RUN_OR_MODEL")
]
SourceArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="A YAML or JSON file, a preset's name, a run folder or a model file.",
        metavar="SOURCE",
        autocompletion=complete_presets,
    ),
]
AllowExternal: TypeAlias = Annotated[
    bool, typer.Option("--allow-external", help="Open other files and downloads that the model names.")
]
Settings: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a value, such as batch_size=8; repeat.", metavar="PATH=VALUE"),
]

SECRET_OPTION = r"--[\w-]*(?:token|secret|password|api-?key|credential)[\w-]*"
SECRETS = (  # an option's value, the password in an address, a token of the Hugging Face Hub
    re.compile(rf"^({SECRET_OPTION}=).+", re.IGNORECASE),
    re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)"),
    re.compile(r"(\b)hf_\w{16,}"),
)

METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


def examples(*commands: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command examples, which its `--help` ends with."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        command.epilog = "\n\n".join(("Examples:", *commands))  # type: ignore[attr-defined]
        return command

    return decorate


def command_line() -> str:
    """This process's command line for records and metadata; values that look secret are replaced by `***`."""
    words = ["ganblocks", *sys.argv[1:]]
    for position in range(1, len(words)):
        if re.fullmatch(SECRET_OPTION, words[position - 1], re.IGNORECASE):
            words[position] = "***"
        for secret in SECRETS:
            words[position] = secret.sub(r"\1***", words[position])
    return shlex.join(words)


def takes_options(
    model: type[Options], *, without: tuple[str, ...] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `model`; the command receives them, validated, as its argument `options`.

    A field `command` of the model gets the command line.

    Args:
        model: The model; its fields with a `Flag` become options.
        without: Fields that this command does not have.
    """
    flags = {name: flag for name, flag in model.flags().items() if name not in without}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        own = [
            each.replace(annotation=hints[each.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for each in inspect.signature(command).parameters.values()
            if each.name != "options"
        ]

        @wraps(command)
        def run(**values: Any) -> None:
            flag_values = {name: values.pop(name) for name in flags}
            changes = {name: value for name, value in flag_values.items() if value is not None}
            if "command" in model.model_fields:
                changes["command"] = command_line()
            command(**values, options=model.of(changes=changes))

        parameters = [*own, *(_parameter(model, name, flag) for name, flag in flags.items())]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        del run.__wrapped__  # typer would read the command's own signature
        return run

    return decorate


def _parameter(model: type[Options], name: str, flag: Flag) -> inspect.Parameter:
    field = model.model_fields[name]
    names = flag.names or _spellings(name, field.annotation)
    lowest: Any = next((each.ge for each in field.metadata if isinstance(each, Ge)), None)
    highest: Any = next((each.le for each in field.metadata if isinstance(each, Le)), None)
    default = None if flag.type is not None else field.get_default()
    annotation = field.annotation if flag.type is None else flag.type | None
    option = typer.Option(
        *names,
        help=field.description,
        rich_help_panel=flag.panel,
        metavar=flag.metavar or _metavar(annotation),
        show_default=flag.default or True,
        min=lowest,
        max=highest,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, option]
    )


def _metavar(annotation: Any) -> str | None:
    """A short name for a value, so that descriptions have room."""
    types = {each for each in (get_args(annotation) or (annotation,)) if each is not type(None)}
    return next((METAVARS[each] for each in types if each in METAVARS), None)


def _spellings(name: str, annotation: Any) -> tuple[str, ...]:
    hyphened = name.replace("_", "-")
    if annotation is bool:
        return (f"--{hyphened}",)
    return (f"--{hyphened}/--no-{hyphened}",) if annotation == bool | None else (f"--{hyphened}",)

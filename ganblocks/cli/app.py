"""The command `ganblocks`: collects the commands of all installed packages, and prints errors without a traceback."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from ganblocks.errors import UsageError
from ganblocks.json_cache import cached
from registry import catalogue
from registry.errors import nearest
from registry.text import excerpt, printable

COMPLETION = "_GANBLOCKS_COMPLETE"  # set while a shell completes a command line
LISTED = ("help", "short_help", "hidden", "deprecated", "rich_help_panel")


class Commands(TyperGroup):
    """The commands; the error about an unknown one names the plugins that failed to load."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands and not ctx.resilient_parsing:
            hint = f"{nearest(args[0], list(self.commands))}{catalogue.failed()}"
            raise UsageError(f"unknown command {excerpt(args[0])!r}; {hint}")
        return super().resolve_command(ctx, args)


def print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ganblocks {metadata.version('ganblocks')}")
        raise typer.Exit


def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """Building blocks for transformer- and style-based GANs, composed by specs."""


def build_app() -> typer.Typer:
    """The command line with the commands of all installed packages."""
    app = _empty_app()
    for name, command in catalogue.commands().items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name, cls=getattr(command, "cls", None), epilog=getattr(command, "epilog", None))(command)
    return app


def build_listing() -> typer.Typer:
    """The command line without its commands, for the list in `--help`, which does not import them."""
    app = _empty_app()
    for name, attributes in cached("commands", _summaries, plugin="cli").items():
        app.command(name, **attributes)(lambda: None)
    return app


def _summaries() -> dict[str, Any]:
    """What `--help` shows of each command."""
    group = typer.main.get_group(build_app())
    return {
        name: {each: value for each in LISTED if isinstance(value := getattr(command, each), str | bool)}
        for name, command in group.commands.items()
    }


def _empty_app() -> typer.Typer:
    app = typer.Typer(
        name="ganblocks",
        cls=Commands,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(common)
    return app


def main() -> None:
    """Run the command line. Errors that a user can fix end in one message, without a traceback."""
    from ganblocks.malloc import tune_malloc
    from ganblocks.openmp import tune_waiting

    tune_malloc()
    tune_waiting()
    try:
        named = any(not word.startswith("-") for word in sys.argv[1:])
        build = build_app if named or COMPLETION in os.environ else build_listing
        build()(prog_name="ganblocks")
    except Exception as error:
        if not isinstance(error, user_errors()):
            raise
        leave(str(error), 2)


def user_errors() -> tuple[type[Exception], ...]:
    """Errors whose message is all that a user needs."""
    from ganblocks.errors import UserError
    from registry import DuplicateError, KernelError, SpecError

    errors: tuple[type[Exception], ...] = (SpecError, KernelError, DuplicateError, UserError, OSError)
    if "assemblies" in sys.modules:
        from assemblies import CheckpointError

        errors = (*errors, CheckpointError)
    return errors


def leave(message: str, code: int) -> NoReturn:
    """Print a message to standard error and exit."""
    typer.echo(printable(message), err=True)
    sys.exit(code)

"""Checks of commands."""

from __future__ import annotations

from typing import Any

import typer
from typer.testing import CliRunner


def shows_its_help(name: str, command: Any) -> None:
    """`--help` works, and begins with a sentence about the command."""
    app = command
    if not isinstance(command, typer.Typer):
        app = typer.Typer(add_completion=False)
        app.command(name)(command)
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0, f"--help ends with code {result.exit_code}: {result.exception!r}"
    documented = (getattr(command, "__doc__", None) or "").strip() or getattr(
        getattr(command, "info", None), "help", ""
    )
    assert documented, "has no docstring, which is the text of its --help"

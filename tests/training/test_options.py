"""The options of a training are declared once; docs and command line follow from them."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ganblocks import train
from ganblocks.cli.app import build_app
from ganblocks.errors import UsageError
from ganblocks.training.options import NOT_RECORDED, TrainOptions
from ganblocks.training.run.identity import DEFAULTS, IN_DOCUMENT
from tests.training.conftest import ROOT


def flag(name):
    return f"--{name.replace('_', '-')}"


def table_row(name):
    field, option = TrainOptions.model_fields[name], TrainOptions.flags()[name]
    default = option.default or ("" if field.default in (None, False, ()) else str(field.default))
    return f"| `{flag(name)}` | {default} | {field.description} |"


def test_the_table_of_options_in_the_docs_is_that_of_the_code():
    lines = (ROOT / "docs" / "training.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| `--")]
    assert rows == [table_row(name) for name in TrainOptions.flags()]


def test_the_command_and_the_function_have_all_options():
    help_text = CliRunner(env={"COLUMNS": "80"}).invoke(build_app(), ["train", "--help"]).output
    parameters = inspect.signature(train).parameters
    for name, field in TrainOptions.model_fields.items():
        assert parameters[name].default == field.default
        assert f"{name}: {field.description}" in (train.__doc__ or "")
        assert (flag(name) in help_text) == (name in TrainOptions.flags())


def test_the_help_fits_a_screen_and_is_grouped():
    lines = CliRunner(env={"COLUMNS": "80"}).invoke(build_app(), ["train", "--help"]).output.rstrip().splitlines()
    assert len(lines) <= 56
    for panel in ("Data", "Length", "Optimisation", "Output", "Hardware"):
        assert any(line.startswith(f"╭─ {panel} ─") for line in lines)
    assert sum(line.strip().startswith("ganblocks train ") for line in lines) == 2


def test_every_option_is_recorded_or_repeated_to_resume():
    options = {*TrainOptions.model_fields} - {"resume", "command"}
    assert options == {*NOT_RECORDED, *DEFAULTS, *IN_DOCUMENT, "micro_batch"}


def test_wrong_options_are_listed_together():
    with pytest.raises(UsageError) as error:
        TrainOptions.of(changes={"kimg": float("inf"), "precision": "fp8", "batch": 4})
    assert str(error.value).splitlines() == [
        "kimg: input should be a finite number, but it is inf",
        "precision: input should be 'fp32', 'tf32', 'bf16' or 'fp16', but it is 'fp8'",
        f"batch: no such option; valid: {', '.join(TrainOptions.model_fields)}",
    ]
    assert TrainOptions.of(TrainOptions(kimg=3), {"init_generator": "a"}).init_generator == Path("a")

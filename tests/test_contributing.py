"""The code of CONTRIBUTING.md runs: its block conforms, its kernel agrees, its preset builds, its command prints."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from typer.testing import CliRunner

from assemblies import check, parse, save_model
from blocks.ops.attention import attention
from ganblocks.cli.app import build_app
from registry import catalogue
from registry.testing import checks
from tests import tiny
from tests.docs.markdown import ROOT, fenced
from tests.toys import added


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """The Python blocks of the page as modules: block, kernel, preset, command."""
    codes = [each.code for each in fenced((ROOT / "CONTRIBUTING.md").read_text()) if each.language == "python"]
    loaded = []
    for number, code in enumerate(codes):
        name = f"contributing_{number}"
        (tmp_path / f"{name}.py").write_text(code)
        spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        loaded.append(module)
    return loaded


def test_the_block_conforms(modules):
    for each in checks(modules[0].AxialAttention):
        try:
            each()
        except AssertionError as error:
            raise AssertionError(f"{each}: {error}") from error


def test_the_kernel_agrees_with_the_reference(modules):
    _, kernel, _, _ = modules
    with added(kernel):
        q, k, v = torch.randn(3, 2, 4, 9, 8, dtype=torch.float64)
        expected = attention(q, k, v, kernel="reference")
        torch.testing.assert_close(attention(q, k, v, kernel="head-by-head"), expected)


def test_the_preset_fits_together(modules):
    with added(modules[2]):
        document = catalogue.presets()["mini-stylenat-large-batch"]()
        assert document.batch_size == 64
        assert check(document)["generator"].complete


def test_the_command_prints_a_number(modules, tmp_path):
    save_model(tmp_path / "model.safetensors", parse(tiny.GENERATOR).build())
    with added(modules[3]):
        result = CliRunner().invoke(build_app(), ["brightness", str(tmp_path / "model.safetensors"), "--num", "2"])
    assert result.exit_code == 0, result.output
    float(result.output)

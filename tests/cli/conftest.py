"""The command line in this process."""

from __future__ import annotations

import sys

import pytest
import torch
import yaml

from assemblies import parse, save_model
from ganblocks.cli import app
from tests import tiny


@pytest.fixture
def ganblocks(monkeypatch, capsys):
    """Run the command; returns its exit code, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ganblocks", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            app.main()
        code = ended.value.code
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        assert "pydantic" not in captured.err
        return (0 if code is None else code), captured.out, captured.err

    return run


@pytest.fixture
def gan_file(tmp_path):
    """A document of a small GAN."""
    path = tmp_path / "gan.yaml"
    path.write_text(yaml.safe_dump(tiny.gan()))
    return path


@pytest.fixture
def model(tmp_path):
    """The model file of a small generator with three classes."""
    torch.manual_seed(0)
    save_model(tmp_path / "model.safetensors", parse(tiny.GENERATOR | {"cond_dim": 3}).build())
    return tmp_path / "model.safetensors"

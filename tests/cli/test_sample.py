"""The commands that make images."""

from __future__ import annotations

import json
import shlex
import sys

import pytest
from PIL import Image

from ganblocks.cli import app as cli
from ganblocks.cli.options import command_line


@pytest.mark.parametrize("command", ["sample", "truncation", "style-mix", "interpolate", "attention-maps"])
def test_every_command_writes_and_reports_as_json(command, model, tmp_path, monkeypatch, capsys):
    out = tmp_path / ("pictures" if command == "attention-maps" else "picture.png")
    arguments = ["--class", "1", "--out", str(out), "--json"] + (["--steps", "2"] if command == "interpolate" else [])
    monkeypatch.setattr(sys, "argv", ["ganblocks", command, str(model), *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (0, None)
    record = json.loads(capsys.readouterr().out)
    assert record["out"] == str(out)
    assert out.exists()
    assert record["conditions"] == ["class 1"]


def test_pictures_carry_the_command_without_secrets(ganblocks, model, tmp_path, monkeypatch):
    token = "hf_" + "a1B2" * 8
    arguments = ("--seeds", "1", "--out", tmp_path / "a.png", "--device", "cpu", "--class", "1")
    assert ganblocks("sample", model, *arguments)[0] == 0
    with Image.open(tmp_path / "a.png") as picture:
        command = picture.text["command"]
    assert shlex.split(command) == ["ganblocks", "sample", str(model), *map(str, arguments)]
    words = ["x", token, "--hub-token", "abc", "--api-key=d e", "--token", "f", "https://me:pass@host/x", "--keep=1"]
    monkeypatch.setattr(sys, "argv", ["ganblocks", *words])
    assert command_line() == (
        "ganblocks x '***' --hub-token '***' '--api-key=***' --token '***' 'https://me:***@host/x' --keep=1"
    )

"""init prints presets as documents with comments, which read back to the same specs."""

from __future__ import annotations

from pathlib import Path

import pytest

from assemblies import parse, read
from ganblocks.publishing.commented import WIDTH, commented_yaml
from registry import catalogue
from tests import tiny

HYBRIDS = sorted((Path(__file__).parents[2] / "examples" / "hybrids").glob("*.yaml"))


@pytest.mark.parametrize("source", [*catalogue.presets(), *HYBRIDS], ids=str)
def test_a_commented_document_reads_back_to_the_same_spec(source, tmp_path):
    spec = read(source)
    path = tmp_path / "mine.yaml"
    path.write_text(commented_yaml(spec, f"{source}\nsecond line"))
    assert read(path) == spec
    lines = path.read_text().splitlines()
    assert max(map(len, lines)) <= WIDTH
    comments = [line for line in lines if line.lstrip().startswith("# ")]
    assert len(set(comments)) >= 30


def test_init_prints_a_preset_with_settings(ganblocks, tmp_path):
    code, out, err = ganblocks("init", "gat-xl", "--set", "batch_size=8", "--set", "kimg=5")
    assert (code, err) == (0, "")
    assert out.startswith("# gat-xl: GAT-XL/2 for latents of ImageNet")
    assert "# Images per training step.\nbatch_size: 8\n" in out
    (tmp_path / "mine.yaml").write_text(out)
    assert read(tmp_path / "mine.yaml") == read("gat-xl", settings=["batch_size=8", "kimg=5"])


def test_init_writes_only_options_that_differ_from_their_defaults_and_comments_each_once():
    text = commented_yaml(parse(tiny.gan(ema={"half_life_kimg": 3.0}, generator_optimizer={"lr": 0.001})))
    assert "ema:\n  # Half-life, in thousands of images; a number or a schedule.\n  half_life_kimg: 3.0\n" in text
    assert " eps:" not in text
    assert text.count("# Learning rate; a number or a schedule.") == 1


def test_init_names_similar_presets(ganblocks):
    code, out, err = ganblocks("init", "mini-stylenut")
    assert (code, out) == (2, "")
    assert "did you mean 'mini-stylenat'" in err


def test_comments_hold_no_control_characters():
    text = commented_yaml(parse(tiny.gan()), "a\x1b[31m\r\nb\x85c")
    assert text.startswith("# a\\x1b[31m\n# b\n# c\n")

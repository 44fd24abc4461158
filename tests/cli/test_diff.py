"""The command diff, and --set of show and train."""

from __future__ import annotations

import json


def test_presets_are_compared_by_paths(ganblocks):
    code, out, _ = ganblocks("diff", "stylenat-ffhq-256", "stylenat-church-256", "--json")
    rows = json.loads(out)
    assert code == 0
    assert rows
    assert all(row["first"] != row["second"] for row in rows)
    _, table, _ = ganblocks("diff", "stylenat-ffhq-256", "stylenat-church-256")
    assert all(row["path"] in table for row in rows)
    assert ganblocks("diff", "mini-vitgan", "mini-vitgan")[1] == "no differences\n"


def test_set_changes_what_show_counts(ganblocks, gan_file):
    whole = json.loads(ganblocks("show", gan_file, "--json")[1])
    changed = json.loads(ganblocks("show", gan_file, "--set", "generator.synthesis.0.dim=32", "--json")[1])
    assert changed["steps"][1]["features"][0] == 2 * whole["steps"][1]["features"][0]
    code, _, err = ganblocks("show", gan_file, "--set", "generator.synthesis.0.dims=32")
    assert code == 2
    assert "generator.synthesis.0.dims" in err
    assert "dim" in err


def test_set_changes_what_is_trained_and_diff_tells(ganblocks, gan_file, tmp_path):
    common = ("train", gan_file, "--data", "digits", "--kimg", "0.008", "--quiet")
    assert ganblocks(*common, "--out", tmp_path / "a")[0] == 0
    assert ganblocks(*common, "--out", tmp_path / "b", "--set", "generator.z_dim=12", "--seed", "5")[0] == 0
    rows = json.loads(ganblocks("diff", tmp_path / "a", tmp_path / "b", "--json")[1])
    by_path = {row["path"]: (row["first"], row["second"]) for row in rows}
    assert by_path["generator.z_dim"] == (8, 12)
    assert by_path["run.seed"] == (0, 5)
    assert set(by_path) == {"generator.z_dim", "run.seed"}


def test_set_needs_a_document(ganblocks, tmp_path):
    code, _, err = ganblocks("train", "--resume", "--out", tmp_path, "--set", "batch_size=3")
    assert code == 2
    assert "give its SPEC too" in err

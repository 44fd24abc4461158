"""The commands evaluate and compare."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest

from registry import catalogue
from tests.extractors import save_extractor
from tests.toys import added

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path / "cache"))


def test_evaluate_prints_and_records_values_and_compare_shows_them(ganblocks, model, tmp_path):
    code, out, err = ganblocks("evaluate", model, "--metrics", "digit", "--num", "60", "--labels", "balanced")
    assert (code, err) == (0, "")
    assert out.startswith("digit: ")
    assert "stylegan-full with other num, labels, 60 images" in out
    code, out, _ = ganblocks(
        "evaluate", model, "--metrics", "digit", "--num", "40", "--labels", "uniform", "--truncation", "0.5", "--json"
    )
    (record,) = json.loads(out)
    assert code == 0
    assert (record["num"], record["truncation_psi"], record["labels"]) == (40, 0.5, "uniform")
    assert record["command"].startswith("ganblocks evaluate ")
    other = tmp_path / "other"
    other.mkdir()
    (other / "metrics.jsonl").write_text((tmp_path / "metrics.jsonl").read_text().splitlines()[0] + "\n")
    code, out, _ = ganblocks("compare", model, other / "metrics.jsonl")
    assert code == 0
    assert out.count("stylegan-full (other num") == 2
    assert "not comparable" not in out
    assert "digit was measured with num 60, quantisation none, noise const, truncation_psi 1, labels balanced" in out
    assert "options.seed 0" in out
    changed = {**record, "num": 99}
    (other / "metrics.jsonl").write_text(json.dumps(changed) + "\n")
    code, out, _ = ganblocks("compare", model, other / "metrics.jsonl")
    assert "digit is not comparable with the others" in out
    assert "num is 99, elsewhere 40" in out


def test_statistics_of_images_are_written_without_a_model(ganblocks, tmp_path):
    file = save_extractor(tmp_path / "extractor.pt")
    arguments = ("--data", "digits", "--resolution", "16", "--set", "fid.extractor=torchscript", "--device", "cpu")
    arguments += ("--extractor-weights", f"torchscript={file}", "--save-reference", tmp_path / "stats.npz")
    code, out, err = ganblocks("evaluate", *arguments)
    assert (code, err) == (0, "")
    assert out == f"{tmp_path / 'stats.npz'}: 1,437 images of digits, torchscript\n"
    code, _, err = ganblocks("evaluate")
    assert code == 2
    assert "there is nothing to measure: give RUN_OR_MODEL, or --data with --save-reference" in err


def test_mistakes_end_in_one_message(ganblocks, model, tmp_path):
    for arguments, message in (
        (("evaluate", tmp_path / "absent"), "does not exist"),
        (("evaluate", model, "--metrics", "fidd"), "unknown metric 'fidd'"),
        (("evaluate", model, "--metrics", "fid", "--extractor-weights", "absent.pth"), "'absent.pth' does not exist"),
        (("evaluate", model, "--metrics", "digit", "--num", "9"), "--labels uniform or balanced"),
        (("compare", tmp_path), "make them with: ganblocks evaluate"),
    ):
        code, out, err = ganblocks(*arguments)
        assert (code, out) == (2, ""), arguments
        assert message in err
    assert not (tmp_path / "metrics.jsonl").exists()


def test_the_metric_of_the_docs_is_a_plugin():
    code = PAGE.partition("```python\n")[2].partition("```")[0]
    module = types.ModuleType("docs_metric")
    sys.modules["docs_metric"] = module
    try:
        exec(compile(code, "docs/metrics.md", "exec"), module.__dict__)
        with added(module):
            entry = catalogue.get("metric", "mean-distance")
        assert entry is not None
        assert entry.summary == "The distance of the mean features; lower is better."
    finally:
        del sys.modules["docs_metric"]


def test_the_docs_list_every_metric_and_extractor_of_this_project():
    for family in ("metric", "feature-extractor"):
        for entry in catalogue.entries(family):
            if entry.origin.package == "ganblocks":
                assert f"`{entry.block.kind}`" in PAGE, entry.block.kind

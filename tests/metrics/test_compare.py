"""Records are compared only where their settings agree; otherwise the differences are named."""

from __future__ import annotations

import json

import pytest

from ganblocks.errors import UsageError
from ganblocks.metrics.compare import compare, records_of
from ganblocks.metrics.records import append_records

FID = {
    "metric": "fid",
    "values": {"fid": 2.5},
    "protocol": "stylegan-full",
    "num": 50000,
    "quantisation": "round",
    "truncation_psi": 1.0,
    "precision": "fp32",
    "options": {},
    "extractor": {"kind": "inception", "weights": "a.pth", "sha256": "0" * 64},
    "reference": {"name": "ffhq", "count": 70000, "hash": "abc"},
    "model": {"file": "model.safetensors", "sha256": "1" * 64, "images": 25_000_000},
}


def run(tmp_path, name, *changes):
    folder = tmp_path / name
    folder.mkdir()
    append_records(folder / "metrics.jsonl", [{**FID, **change} for change in changes])
    return str(folder)


def test_equal_settings_are_compared_whatever_names_and_seeds(tmp_path):
    renamed = {"extractor": {**FID["extractor"], "weights": "b.pth"}, "reference": {**FID["reference"], "name": "x"}}
    a, b = run(tmp_path, "a", {}), run(tmp_path, "b", {"values": {"fid": 3.5}, "seed": 7, **renamed})
    (result,) = compare([a, b])
    assert [row["values"]["fid"] for row in result["rows"]] == [2.5, 3.5]
    assert all(row["comparable"] for row in result["rows"])
    assert result["differences"] == result["notes"] == []
    assert result["setting"]["extractor.kind"] == "inception"
    assert result["setting"]["reference.count"] == 70000


def test_differences_are_named(tmp_path):
    other = {
        "num": 5000,
        "extractor": {**FID["extractor"], "sha256": "2" * 64},
        "reference": {**FID["reference"], "count": 50000},
        "precision": "bf16",
    }
    (result,) = compare([run(tmp_path, "a", {}), run(tmp_path, "b", other)])
    assert [row["comparable"] for row in result["rows"]] == [True, False]
    text = "\n".join(result["differences"])
    assert "num is 5000, elsewhere 50000" in text
    assert "extractor.sha256 is 222222222222..., elsewhere 000000000000..." in text
    assert "reference.count is 50000, elsewhere 70000" in text
    assert len(result["differences"]) == 3
    assert result["notes"] == ["computed in different precisions: fp32, bf16"]


def test_the_setting_that_most_models_share_is_chosen_and_then_the_newest(tmp_path):
    short = {"num": 5000, "values": {"fid": 9.0}}
    sources = [
        run(tmp_path, "a", {"values": {"fid": 1.0}}, {"values": {"fid": 2.0}}, short),
        run(tmp_path, "b", short),
        run(tmp_path, "c", {"values": {"fid": 4.0}}),
        run(tmp_path, "d", {"values": {"fid": 5.0}}),
    ]
    (result,) = compare(sources)
    assert [row["values"]["fid"] for row in result["rows"]] == [2.0, 9.0, 4.0, 5.0]
    assert [row["comparable"] for row in result["rows"]] == [True, False, True, True]


def test_a_model_without_a_metric_has_an_empty_row(tmp_path):
    sources = [run(tmp_path, "a", {}), run(tmp_path, "b", {"metric": "kid", "values": {"kid": 0.1, "kid_std": 0.2}})]
    fid, kid = compare(sources)
    assert fid["rows"][1] == {"source": sources[1], "values": {}, "comparable": False}
    assert kid["rows"][1]["values"] == {"kid": 0.1, "kid_std": 0.2}
    json.dumps([fid, kid])


def test_records_belong_to_the_file_that_they_name(tmp_path):
    other = {"model": {"file": "best.safetensors", "sha256": "3" * 64}, "values": {"fid": 8.0}}
    folder = run(tmp_path, "a", {}, other)
    assert [record["values"]["fid"] for record in records_of(folder)] == [2.5]
    assert [record["values"]["fid"] for record in records_of(f"{folder}/best.safetensors")] == [8.0]
    assert len(records_of(f"{folder}/metrics.jsonl")) == 2
    append_records(tmp_path / "a" / "metrics.jsonl", [{**FID, **other, "metric": "kid", "snapshot": True}])
    assert [record["metric"] for record in records_of(folder)] == ["kid", "fid"]
    with pytest.raises(UsageError, match=r"has no records of metrics.*ganblocks evaluate"):
        records_of(tmp_path)

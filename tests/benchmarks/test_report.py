"""docs/speed.md states what benchmarks/results holds, and nothing else."""

from __future__ import annotations

import re

import pytest

from benchmarks import measure, report

MEASURED = re.compile(r"\b\d[\d.,]*\s?(ms|s|ns|MB|GB|%|x|times|GFLOP/s)(?=[\s.,;:)]|$)(?! \d)")


def test_the_tables_are_those_of_the_json_files():
    page = report.PAGE.read_text()
    assert set(re.findall(r"<!-- begin: (\w+) -->", page)) == set(report.TABLES)
    assert report.render(page) == page, "run python -m benchmarks.report --write"


def test_the_text_between_the_tables_holds_no_measured_numbers():
    text = re.sub(r"<!-- begin: (\w+) -->.*?<!-- end: \1 -->", "", report.PAGE.read_text(), flags=re.DOTALL)
    assert not [match[0] for match in MEASURED.finditer(text)]


def test_every_result_file_has_a_table():
    named = {name for table in report.TABLES.values() for name in re.findall(r"`([\w-]+\.json)`", table())}
    assert named == {path.name for path in measure.RESULTS.glob("*.json")}


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (0.0354, "0.0354"), (1.0, "1"), (15.65, "15.7"), (1003.6, "1004"), (220.4, "220")]
)
def test_numbers_have_three_digits(value, text):
    assert report.number(value) == text


def test_a_commit_is_dirty_only_if_measured_code_has_changes(monkeypatch):
    replies = {"rev-parse": "abc1234", "status": None}
    monkeypatch.setattr(measure, "_git", lambda command, *_: replies[command])
    assert measure.commit() == "abc1234"
    replies["status"] = " M blocks/ops/native.py"
    assert measure.commit() == "abc1234-dirty"

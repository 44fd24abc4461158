"""The benchmarks run, and their measure is fair."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from assemblies import check, parse
from benchmarks import measure
from tests import tiny

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense", "convolution"])
def test_a_benchmark_prints_a_table_and_writes_json(name, tmp_path):
    output = tmp_path / "found.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--threads", "1", "--output", str(output)]
    asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=True)
    found = json.loads(output.read_text())
    assert found["machine"]["packages"]["torch"] == torch.__version__
    assert {row["kernel"] for row in found["rows"]} >= {"reference"}
    assert "times reference" in asked.stdout


@pytest.mark.slow
def test_whole_models_are_measured_in_processes_of_their_own(tmp_path):
    output, document = tmp_path / "found.json", tmp_path / "gan.yaml"
    document.write_text(yaml.safe_dump(tiny.gan()))
    command = [sys.executable, "-m", "benchmarks.generators", "--quick", "--only", str(document), "--threads", "1"]
    asked = subprocess.run(
        [*command, "--output", str(output), "--allocators", "default", "kept"],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    rows = json.loads(output.read_text())["rows"]
    assert [(row["pass"], row["allocator"]) for row in rows] == [
        (work, allocator) for work in ("forward", "discriminator", "step") for allocator in ("default", "kept")
    ]
    trace = check(parse(tiny.gan()))["generator"]
    forward, step = rows[0], rows[4]
    assert forward["M parameters"] == pytest.approx(trace.parameters / 1e6)
    assert forward["G multiply-adds"] == pytest.approx(trace.multiply_adds / 1e9, rel=1e-2)
    assert step["G multiply-adds"] > 2 * forward["G multiply-adds"]
    assert all(row["peak MB"] > 100 and row["s/image"] > 0 for row in rows)
    assert "matmul rate %" in asked.stdout
    lost = subprocess.run([*command[:3], "--only", "nobody"], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert lost.returncode == 1
    assert "no preset and no file is called nobody" in lost.stderr


def test_candidates_run_in_turns():
    order: list[str] = []
    times = measure.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3)
    assert order == ["a", "b", *"ababab"]
    assert {name: len(found) for name, found in times.items()} == {"a": 3, "b": 3}
    assert measure.medians({"a": [3, 1, 2]}) == {"a": 2}


def growing(megabytes: int):
    return lambda: torch.ones(megabytes * 2**18).sum()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_is_that_of_the_run_alone():
    grown = measure.peak_memory(growing, 64)
    assert grown is not None
    assert 60 < grown / 2**20 < 90


def test_a_table_has_its_columns_aligned():
    text = measure.table([{"a": "x", "b": 1.23456}, {"a": "longer", "b": None}])
    assert text.splitlines() == ["     a     b", "     x  1.23", "longer     -"]

"""The benchmarks run at tiny sizes, and their timings and memory measurements are right."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from assemblies import check, parse
from benchmarks import measure, neighborhood, waiting
from ganblocks.openmp import USER_SETTINGS
from tests import tiny

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convolution", "dense", "neighborhood"])
def test_a_benchmark_prints_a_table_and_writes_json(name, tmp_path):
    output = tmp_path / "rows.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--threads", "1", "--output", str(output)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=True)
    measured = json.loads(output.read_text())
    assert measured["machine"]["packages"]["torch"] == torch.__version__
    assert {row["kernel"] for row in measured["rows"]} >= {"reference"}
    assert all(row["ms"] > 0 if "ms" in row else row["skipped"] for row in measured["rows"])
    assert "times reference" in result.stdout


def test_neighborhood_is_measured_with_both_allocators(tmp_path, monkeypatch):
    monkeypatch.setattr(neighborhood, "QUICK_SIDES", (8,))
    output = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["neighborhood", "--quick", "--threads", "1", "--output", str(output)])
    runs = []
    run = SimpleNamespace(run=lambda command, **options: runs.append((command, options)))
    monkeypatch.setattr(neighborhood, "subprocess", run)
    threads = torch.get_num_threads()
    neighborhood.main()
    torch.set_num_threads(threads)
    rows = json.loads(output.read_text())["rows"]
    assert {row["kernel"] for row in rows if "ms" in row} >= {"compiled", "tiled", "tiled-math", "masked", "reference"}
    assert all(row["ms"] > 0 if "ms" in row else row["skipped"] for row in rows)
    ((command, options),) = runs
    assert command[-1] == str(tmp_path / "rows-tuned-malloc.json")
    assert options["env"].items() >= measure.TUNED_MALLOC.items()


def test_each_way_to_wait_is_measured_in_a_process_with_its_environment(tmp_path, monkeypatch):
    output, environments = tmp_path / "rows.json", []

    def run(command, env, **options):
        environments.append({name: env.get(name) for name in (*USER_SETTINGS, "OMP_NUM_THREADS")})
        return SimpleNamespace(stdout=f"{len(environments)}\n")

    monkeypatch.setattr(waiting, "subprocess", SimpleNamespace(run=run))
    arguments = ["--quick", "--only", "mini-vitgan", "--beside", "0", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["waiting", *arguments])
    threads = torch.get_num_threads()
    waiting.main()
    torch.set_num_threads(threads)
    assert [each["OMP_NUM_THREADS"] for each in environments] == ["2", "2", "2", "1"]
    assert [each["GOMP_SPINCOUNT"] for each in environments] == [None, "10000", None, None]
    assert [each["OMP_WAIT_POLICY"] for each in environments] == [None, None, "passive", None]
    (row,) = json.loads(output.read_text())["rows"]
    assert [row[f"{way}: images/s"] for way in waiting.WAYS] == [1, 2, 3, 4]


@pytest.mark.slow
def test_whole_models_are_measured_in_separate_processes(tmp_path):
    output, document = tmp_path / "rows.json", tmp_path / "gan.yaml"
    document.write_text(yaml.safe_dump(tiny.gan()))
    command = [sys.executable, "-m", "benchmarks.generators", "--quick", "--only", str(document), "--threads", "1"]
    result = subprocess.run(
        [*command, "--output", str(output), "--allocators", "default", "tuned", "--passes", "forward", "step"],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    rows = json.loads(output.read_text())["rows"]
    assert [(row["pass"], row["allocator"]) for row in rows] == [
        (work, allocator) for work in ("forward", "step") for allocator in ("default", "tuned")
    ]
    trace = check(parse(tiny.gan()))["generator"]
    forward, step = rows[0], rows[2]
    assert forward["M parameters"] == pytest.approx(trace.parameters / 1e6)
    assert forward["G multiply-adds"] == pytest.approx(trace.multiply_adds / 1e9, rel=1e-2)
    assert step["G multiply-adds"] > 2 * forward["G multiply-adds"]
    assert all(row["peak MB"] > 100 and row["s/image"] > 0 for row in rows)
    assert "matmul rate %" in result.stdout
    in_turns = subprocess.run(
        [*command, "--passes", "forward", "--precision", "float32", "bf16", "--reference", f"{__name__}:other_code"],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    assert [line.split()[5] for line in in_turns.stdout.splitlines()[:3]] == ["float32", "bf16", "reference"]
    unknown = subprocess.run([*command[:3], "--only", "nobody"], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert unknown.returncode == 1
    assert "no preset or file nobody" in unknown.stderr


def other_code(preset: str, work: str, batch: int):
    """A function to time that `--reference` names."""
    assert (work, batch) == ("forward", 1)
    return lambda: time.sleep(0.01)


def test_ratios_are_of_the_same_turns():
    assert measure.ratio([2.0, 3.0, 9.0], [1.0, 1.0, 3.0]) == {"ratio": 3.0, "quartiles": [2.5, 3.0]}
    assert measure.ratio([2.0], [4.0]) == {"ratio": 0.5, "quartiles": [0.5, 0.5]}


def test_every_round_runs_all_candidates():
    order: list[str] = []
    times = measure.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3)
    assert order == ["a", "b", *"ababab"]
    assert {name: len(runs) for name, runs in times.items()} == {"a": 3, "b": 3}
    assert measure.medians({"a": [3, 1, 2]}) == {"a": 2}


def allocate(megabytes: int):
    return lambda: torch.ones(megabytes * 2**18).sum()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_is_that_of_the_run_only():
    growth = measure.peak_memory(allocate, 64)
    assert growth is not None
    assert 60 < growth / 2**20 < 90


def test_table_columns_are_aligned():
    text = measure.table([{"a": "x", "b": 1.23456}, {"a": "longer", "b": None}])
    assert text.splitlines() == ["     a     b", "     x  1.23", "longer     -"]

"""The benchmarks of GPUs: rows, budgets and tables, on machines without one."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import torch
import yaml

from benchmarks import generators_gpu, gpu, measure, report, training
from tests import tiny


def test_images_and_steps_are_measured_in_each_mode_or_skipped_with_the_reason(tmp_path, monkeypatch, capsys):
    document, output = tmp_path / "gan.yaml", tmp_path / "rows.json"
    document.write_text(yaml.safe_dump(tiny.gan()))
    arguments = ["--only", str(document), "--modes", "eager", "graph", "--batches", "2", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["generators_gpu", "--quick", *arguments, "--output", str(output)])
    threads = torch.get_num_threads()
    generators_gpu.main()
    torch.set_num_threads(threads)
    rows = json.loads(output.read_text())["rows"]
    assert [(row["mode"], row["pass"], row["batch"]) for row in rows] == [
        (mode, work, 2) for work in ("forward", "step") for mode in ("eager", "graph")
    ]
    assert all(row["images/s"] == pytest.approx(2000 / row["ms"]) for row in rows[:3])
    if not torch.cuda.is_available():
        assert "skipped" in rows[3]
    assert "images/s" in capsys.readouterr().out


def test_training_steps_are_measured_in_each_mode(tmp_path, monkeypatch):
    document, output = tmp_path / "gan.yaml", tmp_path / "rows.json"
    document.write_text(yaml.safe_dump(tiny.gan()))
    arguments = ["--quick", "--only", str(document), "--threads", "1", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["training", *arguments])
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads = torch.get_num_threads()
    training.main()
    torch.set_num_threads(threads)
    rows = json.loads(output.read_text())["rows"]
    assert [row["mode"] for row in rows] == ["plain", "deterministic"]
    assert all(row["images/s"] == pytest.approx(1000 * row["batch"] / row["ms"]) for row in rows)
    assert not torch.are_deterministic_algorithms_enabled()


def test_no_case_starts_after_the_budget(capsys):
    options = SimpleNamespace(deadline=-1.0)
    assert not measure.in_time(options, "stylenat", 256)
    assert capsys.readouterr().out == "not measured, the budget is spent: stylenat 256\n"


def test_a_candidate_that_fails_is_left_out_with_the_reason():
    def fail():
        raise RuntimeError("out of memory\nmore")

    runs, reasons = measure.runnable({"good": lambda: list, "bad": lambda: fail})
    assert list(runs) == ["good"]
    assert reasons == {"bad": "RuntimeError: out of memory"}


@pytest.mark.parametrize(
    ("name", "slug"),
    [("NVIDIA H100 80GB HBM3", "cuda-H100"), ("NVIDIA GeForce RTX 4090", "cuda-GeForce-RTX-4090")],
)
def test_result_files_are_named_after_the_gpu(name, slug, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert measure.device_slug("cuda") == slug
    assert measure.device_slug("cpu") == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="would measure")
def test_without_a_gpu_make_gpu_bench_says_so(capsys):
    gpu.main()
    assert capsys.readouterr().out == "make gpu-bench: nothing measured: this machine has no CUDA device\n"


def test_a_result_of_a_gpu_becomes_a_table_with_a_column_per_kernel(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    assert report.neighborhood_gpu() == "No result of this benchmark is stored yet."
    case = {"dtype": "bfloat16", "side": 64, "dilation": 1, "bias": True, "gradients": False}
    rows = [case | {"kernel": "triton", "ms": 0.04}, case | {"kernel": "tiled", "ms": 1.26}]
    rows.append(case | {"kernel": "flex", "skipped": "takes 82 GiB"})
    machine = {"processor": "16 x Xeon", "threads": 2, "packages": {"torch": "2.11"}, "load": 0.1}
    machine["gpu"] = {"name": "NVIDIA H200"}
    (tmp_path / "neighborhood-cuda-H200.json").write_text(
        json.dumps({"machine": machine, "commit": "abc1234", "rows": rows})
    )
    assert report.neighborhood_gpu().splitlines() == [
        "| dtype | side | dilation | bias | gradients | triton: ms | tiled: ms |",
        "| --- | --- | --- | --- | --- | --: | --: |",
        "| bfloat16 | 64 | 1 | yes | no | **0.04** | 1.26 |",
        "",
        "- `neighborhood-cuda-H200.json`: NVIDIA H200 beside Xeon, 16 cores, 2 threads, PyTorch 2.11, commit abc1234, "
        "load average 0.1 at the start.",
    ]

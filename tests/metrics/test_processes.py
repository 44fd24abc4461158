"""Two processes share the images of a metric and get the value of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ganblocks.metrics.evaluate import evaluate
from ganblocks.metrics.records import read_records

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_two_processes_get_the_values_of_one(model, extractor_file):
    names = ["fid", "prdc", "digit"]
    settings = [f"{name}.extractor=torchscript" for name in names[:2]]
    options = {"settings": settings, "extractor_weights": [str(extractor_file)], "noise": "const", "num": 61}
    alone = evaluate(model, names, "digits", device="cpu", no_cache=True, **options)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--standalone"]
    command += ["-m", "--", "ganblocks", "evaluate", str(model), "--data", "digits", "--metrics", ",".join(names)]
    command += ["--num", "61", "--noise", "const", "--device", "cpu", "--extractor-weights", str(extractor_file)]
    command += [part for setting in settings for part in ("--set", setting)] + ["--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    shared = read_records(model.parent / "metrics.jsonl")[-3:]
    assert [record["processes"] for record in shared] == [2, 2, 2]
    for one, two in zip(alone, shared, strict=True):
        assert two["values"] == pytest.approx(one["values"], rel=1e-5)
    assert json.loads(done.stdout[done.stdout.index("[") :])[0]["metric"] == "fid"

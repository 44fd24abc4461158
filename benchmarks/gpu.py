"""All benchmarks on this machine's GPU, within six minutes; results go into benchmarks/results.

python -m benchmarks.gpu, or make gpu-bench. Cases that do not fit into a benchmark's budget are named and left out.
"""

from __future__ import annotations

import subprocess
import sys
import time

import torch

from benchmarks.measure import ROOT

BUDGETS = {"neighborhood": 45, "dense": 30, "convolution": 52, "training": 60, "generators_gpu": 105}  # seconds
SLACK = 12  # seconds to start a process, and for the case that runs when the budget is spent


def main() -> None:
    if not torch.cuda.is_available():
        print("make gpu-bench: nothing measured: this machine has no CUDA device")
        return
    print(f"measuring {', '.join(BUDGETS)} on {torch.cuda.get_device_name()}", flush=True)
    failed, start = [], time.monotonic()
    for name, budget in BUDGETS.items():
        command = [sys.executable, "-m", f"benchmarks.{name}", "--device", "cuda", "--budget", str(budget)]
        try:
            if subprocess.run(command, cwd=ROOT, timeout=budget + SLACK).returncode:
                failed.append(name)
        except subprocess.TimeoutExpired:
            failed.append(f"{name} (stopped after {budget + SLACK} s; what it saved before is kept)")
        print(f"{name}: budget {budget} s; {time.monotonic() - start:.0f} s since the start", flush=True)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()

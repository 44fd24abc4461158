"""Training with each way in which OpenMP's threads can wait for each other, alone and beside other processes.

python -m benchmarks.waiting [--beside 0 2] [--only mini-vitgan] prints a table and writes JSON into benchmarks/results.
The environment is read once, so each way has a process of its own; they take turns.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import time

import torch

from benchmarks import measure
from benchmarks.training import prepare
from ganblocks.openmp import USER_SETTINGS

WAYS: dict[str, dict[str, str]] = {
    "default": {},
    "10000 turns": {"GOMP_SPINCOUNT": "10000"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
SECONDS = 3.0
BUSY_LOOP = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        return train(sys.argv[2], float(sys.argv[3]))
    options = measure.parse_options(__doc__ or "", "waiting", add_options)
    machine, rows = measure.machine(), []
    for preset, beside in itertools.product(options.only, options.beside):
        loops = [subprocess.Popen([sys.executable, "-c", BUSY_LOOP]) for _ in range(beside)]
        try:
            times: dict[str, list[float]] = {way: [] for way in WAYS}
            for _, way in itertools.product(range(1 if options.quick else options.turns), WAYS):
                times[way].append(measured(preset, way, options))
        finally:
            for loop in loops:
                loop.kill()
                loop.wait()
        row = {"preset": preset, "threads": options.threads, "beside": beside, "turns": len(times["default"])}
        rows.append(row | {f"{way}: images/s": rate for way, rate in measure.medians(times).items()})
        measure.save(options.output, machine, rows)
    print(machine, measure.table(rows), sep="\n")


def measured(preset: str, way: str, options: argparse.Namespace) -> float:
    """Images per second of a process that trains."""
    environment = {name: text for name, text in os.environ.items() if name not in USER_SETTINGS}
    environment |= {"OMP_NUM_THREADS": str(options.threads)} | WAYS[way]
    command = [sys.executable, "-m", "benchmarks.waiting", "--measure", preset, str(0 if options.quick else SECONDS)]
    ended = subprocess.run(command, env=environment, cwd=measure.ROOT, capture_output=True, text=True, check=True)
    return float(ended.stdout.split()[-1])


def train(preset: str, seconds: float) -> None:
    """Train for some seconds and print the images per second."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    trainer, train_step = prepare(preset, "cpu")
    train_step()
    start, steps = time.perf_counter(), 0
    while not steps or time.perf_counter() - start < seconds:
        train_step()
        steps += 1
    print(steps * trainer.batch_size / (time.perf_counter() - start))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", metavar="PRESET", default=["mini-vitgan", "mini-stylenat"], help="presets")
    parser.add_argument("--beside", nargs="+", type=int, default=[0, 2], help="busy processes beside it [0 2]")
    parser.add_argument("--turns", type=int, default=3, help="processes of each way [3]")


if __name__ == "__main__":
    main()

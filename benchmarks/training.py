"""Whole training steps with optimizers and all regularizers: plain, with --deterministic, and captured in CUDA graphs.

python -m benchmarks.training [--device cuda] [--only mini-vitgan] prints a table and writes JSON into
benchmarks/results. The modes of a preset run in turns; a run has so many steps that every lazy regularizer is in it.
cuBLAS has the workspace of --deterministic in all modes, because it reads it once.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from assemblies import GAN, check, read
from benchmarks import measure
from ganblocks.randomness import deterministic_algorithms
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.trainer import Trainer

GAT = "examples/hybrids/gat-hydra.yaml"
PRESETS = (
    "mini-r3gan",
    GAT,
    "mini-vitgan",
    "mini-styleformer",
    "mini-stylenat",
    "mini-stylegan-t",
    "styleformer-cifar10-32",
)
MODES = ("plain", "deterministic", "graph", "deterministic graph")
FEWEST_STEPS, SECONDS = 4, 0.6
WARM_UP = 4  # steps of each kind, in the last of which a graph is captured
COLUMNS = ("preset", "batch", "mode", "ms", "images/s", "peak MB")


def main() -> None:
    options = measure.parse_options(__doc__ or "", "training", add_options)
    if torch.device(options.device).type != "cuda":
        options.modes = [mode for mode in options.modes if not mode.endswith("graph")]
    machine, rows = measure.machine(options.device), []
    with deterministic_algorithms():
        pass  # sets the workspace before cuBLAS starts
    for preset in options.only:
        if measure.in_time(options, preset):
            rows += measured(preset, options)
            measure.save(options.output, machine, rows)
            print(measure.table(rows[-len(options.modes) :], COLUMNS), flush=True)
    print(machine, measure.table(rows, COLUMNS), sep="\n")


def measured(preset: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each mode."""
    runs, rows = {}, []
    on_gpu = torch.device(options.device).type == "cuda"
    for mode in options.modes:
        gc.collect()
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() if on_gpu else 0
        runs[mode], steps, batch = make_run(preset, mode, options.device, 1 if options.quick else FEWEST_STEPS)
        peak = torch.cuda.max_memory_allocated() - before if on_gpu else measure.peak_resident()
        rows.append({"preset": Path(preset).stem, "batch": batch, "mode": mode, "peak MB": peak / 1e6})
    rounds = 1 if options.quick else 7
    times = measure.interleaved(runs, rounds=rounds, warm=0, device=options.device, seconds=SECONDS * len(runs))
    for row in rows:
        seconds = measure.medians(times)[row["mode"]] / steps
        row |= {"ms": 1e3 * seconds, "images/s": row["batch"] / seconds}
        row |= measure.ratio(times[row["mode"]], times[options.modes[0]])
    return rows


def make_run(preset: str, mode: str, device: str, fewest_steps: int) -> tuple[Callable[[], None], int, int]:
    """A function that trains for some steps, their number, and the images in a batch. Kernels are warm."""
    kind: Callable[[], AbstractContextManager[None]]
    kind = deterministic_algorithms if mode.startswith("deterministic") else nullcontext
    with kind():
        trainer, train_step = prepare(preset, device, cuda_graphs=mode.endswith("graph"))
    every = [each.every for optimizer in trainer.optimizers.values() for each in optimizer.lazy]
    period = max(every, default=1)
    steps = -(-fewest_steps // period) * period

    def run() -> None:
        trainer.step = 0
        with kind():
            for _ in range(steps):
                train_step()

    with kind():
        for first in (0, 1):  # steps with lazy regularizers, and without
            for _ in range(WARM_UP if mode.endswith("graph") else 1):
                trainer.step = first
                train_step()
    if mode.endswith("graph"):
        run()  # warms up what is left
    return run, steps, trainer.batch_size


def prepare(preset: str, device: str, *, cuda_graphs: bool = False) -> tuple[Trainer, Callable[[], None]]:
    """A trainer, and a function that trains for a step on random images."""
    torch.manual_seed(0)
    trainer = Trainer(read(preset, GAN), DistributedContext(device), cuda_graphs=cuda_graphs)
    k, height, width = check(trainer.spec)["generator"].image or (3, 1, 1)
    real = torch.rand(trainer.batch_size, k, height, width, device=device) * 2 - 1
    classes = trainer.generator.cond_dim
    c = torch.eye(classes, device=device)[torch.arange(trainer.batch_size) % classes] if classes else None
    return trainer, lambda: trainer.train_step(real, c)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", metavar="PRESET", default=list(PRESETS), help="presets to measure")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="modes to measure, the first is 1")


if __name__ == "__main__":
    main()

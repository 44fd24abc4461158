"""Whole models on a GPU: images and generator steps, eager, captured in a CUDA graph and compiled.

python -m benchmarks.generators_gpu [--only stylenat-ffhq-256] [--budget 200] prints a table and writes JSON into
benchmarks/results. Each preset runs in the precision that its authors use. Compiled networks are measured last, since
compiling takes longest.
"""

from __future__ import annotations

import argparse
import gc
import itertools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from assemblies import read
from assemblies.inference import Precision, computing_in
from assemblies.inference.captured import replaced_generator
from benchmarks import measure
from benchmarks.generators import Case, Networks, build, make_run
from blocks.common.weight_cache import Results, frozen_weights

PRESETS: dict[str, Precision] = {
    "stylegan-t-lite-64": "fp16",
    "stylegan-t-lite-256": "fp16",
    "stylenat-ffhq-256": "tf32",
    "styleformer-cifar10-32": "fp32",
    "vitgan-official-cifar10-32": "fp32",
}
BATCHES = (1, 4, 16)
MODES = ("eager", "graph", "compile")
WARM_UP = 3
COLUMNS = ("preset", "precision", "pass", "mode", "batch", "ms", "images/s", "peak MB")


def main() -> None:
    options = measure.parse_options(__doc__ or "", "generators", add_options)
    machine, rows = measure.machine(options.device), []
    for compiles in (False, True):
        modes = [mode for mode in options.modes if (mode == "compile") == compiles]
        presets = options.only[::-1] if compiles else options.only  # the last ones compile fastest
        for preset, work in itertools.product(presets if modes else (), ("forward", "step")):
            networks: Networks | None = None
            for mode, batch in itertools.product(modes, options.batches):
                case = Case(preset, work, batch, device=options.device, compiled=compiles)
                if not measure.in_time(options, preset, work, mode, batch):
                    break
                torch.manual_seed(0)
                networks = networks or build(read(preset), case)
                rows.append(row_of(networks, case, mode, options))
                print(measure.table(rows[-1:], (*COLUMNS, "skipped")).splitlines()[-1], flush=True)
                measure.save(options.output, machine, rows)
            del networks
            torch._dynamo.reset()
            gc.collect()
    print(machine, measure.table([row for row in rows if "skipped" not in row], COLUMNS), sep="\n")


def row_of(networks: Networks, case: Case, mode: str, options: argparse.Namespace) -> dict[str, Any]:
    """A measured row, or the reason why the case cannot run."""
    precision = PRESETS.get(case.preset, "fp32")
    row = {"preset": case.preset, "precision": precision, "pass": case.work, "mode": mode, "batch": case.batch}
    on_gpu = torch.device(case.device).type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    runs, reasons = measure.runnable({mode: lambda: prepare(networks, case, mode, precision)})
    if reasons:
        return row | {"skipped": reasons[mode]}
    rounds, seconds = (1, 0.0) if options.quick else (7, 0.3)
    (times,) = measure.interleaved(runs, rounds=rounds, warm=WARM_UP, device=case.device, seconds=seconds).values()
    median = measure.medians({"": times})[""]
    peak = torch.cuda.max_memory_allocated() if on_gpu else measure.peak_resident()
    return row | {"ms": 1e3 * median, "images/s": case.batch / median, "peak MB": peak / 1e6}


def prepare(networks: Networks, case: Case, mode: str, precision: Precision) -> Callable[[], object]:
    """The timed function of a mode."""
    device = torch.device(case.device)
    if mode == "graph" and case.work == "forward":
        fast = networks.generator.optimize_for_inference(batch_size=case.batch, precision=precision)
        return make_run(Networks(fast), case, case.device)
    run = within(make_run(networks, case, case.device), case, precision, device)
    return capture(run, device) if mode == "graph" else run


def within(run: Callable[[], object], case: Case, precision: Precision, device: torch.device) -> Callable[[], object]:
    """A function that runs in a precision, for images with frozen weights."""
    results = Results()

    def run_within() -> None:
        with computing_in(precision, device):
            if case.work == "forward":
                with frozen_weights(results):
                    run()
            else:
                run()

    return run_within


def capture(run: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """A step as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    for tried in (replaced_generator(device), nullcontext()):  # a failed capture makes random numbers unusable
        graph = torch.cuda.CUDAGraph()
        with tried, torch.cuda.graph(graph):
            run()
    return graph.replay


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", metavar="PRESET", default=list(PRESETS), help="presets to measure")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="modes to measure")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, help="batch sizes to measure")


if __name__ == "__main__":
    main()

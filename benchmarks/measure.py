"""What the benchmarks share: the machine in words, its matmul rate, fair timings, peak memory, tables and JSON.

Timings of one machine at one time are only comparable when taken in turns: `interleaved` runs the candidates round by
round and keeps each one's median. Peak memory is taken in a process of its own, one for each candidate.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("ganblocks", "torch", "natten", "xformers", "triton")
ALLOCATOR = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_")  # glibc: keep large temporaries instead of mapping anew


def machine(device: str | torch.device = "cpu") -> dict[str, Any]:
    """What a figure has to be read with: processor, threads, versions, allocator settings, load at the start."""
    device = torch.device(device)
    told: dict[str, Any] = {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "allocator": {name: os.environ[name] for name in ALLOCATOR if name in os.environ},
        "load": round(os.getloadavg()[0], 2),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        told["gpu"] = {
            "name": properties.name,
            "memory_bytes": properties.total_memory,
            "capability": list(torch.cuda.get_device_capability(device)),
            "cuda": torch.version.cuda,
            "tf32": torch.backends.cuda.matmul.allow_tf32,
        }
    return told


def processor() -> str:
    """The CPU's own name for itself, and how many of it there are."""
    try:
        names = [
            line.partition(":")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
        ]
    except OSError:
        names = []
    return f"{os.cpu_count()} x {names[0].strip() if names else platform.processor() or platform.machine()}"


def matmul_rate(
    dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu", side: int = 2048, rounds: int = 7
) -> float:
    """Multiply-adds, counted as two operations, that a square matrix product reaches here in a second: the best round.

    The best and no median, since what else runs on the machine can only take away from it.
    """
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    y = torch.empty_like(a)
    return 2 * side**3 / min(interleaved({"": lambda: torch.mm(a, b, out=y)}, rounds=rounds, device=device)[""])


def interleaved(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 7,
    warm: int = 1,
    device: str | torch.device = "cpu",
    seconds: float | None = None,
) -> dict[str, list[float]]:
    """Seconds of each run of each candidate, all of them once in every round.

    Args:
        candidates: What to run, by name.
        rounds: How often each runs, after warming up.
        warm: Untimed runs of each before.
        device: Where it computes; on a GPU a run ends when the GPU is done.
        seconds: No new round starts after so long; at least one is run.
    """
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else _nothing
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for run in candidates.values():
        for _ in range(warm):
            run()
    begun = time.perf_counter()
    for _ in range(rounds):
        for name, run in candidates.items():
            wait()
            start = time.perf_counter()
            run()
            wait()
            times[name].append(time.perf_counter() - start)
        if seconds is not None and time.perf_counter() - begun > seconds:
            break
    return times


def medians(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median run of each candidate, in seconds."""
    return {name: statistics.median(runs) for name, runs in times.items()}


def training(run: Callable[[], torch.Tensor], leaves: Sequence[torch.Tensor]) -> Callable[[], object]:
    """`run` and the gradients of its sum's stand-in, a fixed random weighting, for `leaves` that require them."""
    with torch.no_grad():
        weighting = torch.randn_like(run())
    return lambda: torch.autograd.grad(run(), leaves, weighting)


def peak_memory(
    make: Callable[..., Callable[[], object]], *args: Any, device: str = "cpu", runs: int = 2
) -> int | None:
    """Bytes that `make(*args)()` needs at its peak beyond what `make` set up; None if the process died of it.

    On a CPU it is the resident set's growth, seen by a fresh process (`make` and `args` have to be importable and
    picklable); on a GPU it is the allocator's own count.
    """
    if torch.device(device).type == "cuda":
        run = make(*args)
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    spawn = multiprocessing.get_context("spawn")
    mine, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_measure_growth, args=(theirs, make, args, runs, torch.get_num_threads()))
    process.start()
    theirs.close()
    try:
        grown: int | None = mine.recv()
    except EOFError:
        grown = None
    process.join()
    return grown


def _measure_growth(pipe: Any, make: Callable[..., Callable[[], object]], args: Any, runs: int, threads: int) -> None:
    torch.set_num_threads(threads)
    run = make(*args)
    gc.collect()
    before = _resident()
    _forget_peak()
    for _ in range(runs):
        run()
    pipe.send(max(0, highest_resident() - before))


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def _resident() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return highest_resident()


def highest_resident() -> int:
    """Bytes that this process held in memory at its peak."""
    try:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def arguments(
    description: str, name: str, more: Callable[[argparse.ArgumentParser], None] | None = None
) -> argparse.Namespace:
    """The options that every benchmark takes: --quick, --device, --threads, --output; and those that `more` adds."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="tiny sizes and few rounds: only to see that it runs")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument(
        "--output", type=Path, default=None, help=f"JSON file (default: {RESULTS.name}/{name}-DEVICE.json)"
    )
    if more is not None:
        more(parser)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    asked.output = asked.output or (None if asked.quick else RESULTS / f"{name}-{torch.device(asked.device).type}.json")
    return asked


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows under their columns' names; numbers with three digits, None as a dash."""
    columns = columns or list(dict.fromkeys(name for row in rows for name in row))
    cells = [list(columns), *([_cell(row.get(name)) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in cells)


def save(path: Path | None, told: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Machine and rows as JSON; nothing without a path."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": dict(told), "commit": _commit(), "rows": list(rows)}, indent=1) + "\n")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 1000
        else str(round(value) if isinstance(value, float) else value)
    )


def _commit() -> str | None:
    here = Path(__file__).parent
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, timeout=10
        )
    except OSError:
        return None
    return asked.stdout.strip() or None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _nothing() -> None:
    pass

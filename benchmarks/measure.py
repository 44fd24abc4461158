"""What the benchmarks share: machine description, matmul rate, timing in turns, peak memory, tables and JSON.

Timings of candidates are comparable only if they are taken in turns on one machine: `interleaved` runs all candidates
in every round. Peak memory is measured in a separate process for each candidate.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import math
import multiprocessing
import os
import platform
import re
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from registry.spec_file import installed_version
from registry.tuning import processor

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("ganblocks", "torch", "natten", "xformers", "triton")
TIMING_SECONDS, MOST_REPEATS = 2e-3, 100  # of a timing on a GPU
CODE = ("assemblies", "benchmarks/*.py", "blocks", "ganblocks", "plugins", "registry")  # what a measurement depends on
TUNED_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "68719476736"}
"""Environment with which glibc keeps large freed blocks, as `ganblocks.malloc.tune_malloc` sets it."""


def machine(device: str | torch.device = "cpu") -> dict[str, Any]:
    """Processor, threads, versions, allocator settings and load average at the start."""
    device = torch.device(device)
    description: dict[str, Any] = {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := installed_version(name))},
        "allocator": {name: os.environ[name] for name in TUNED_MALLOC if name in os.environ},
        "load": round(os.getloadavg()[0], 2),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        description["gpu"] = {
            "name": properties.name,
            "memory_bytes": properties.total_memory,
            "capability": list(torch.cuda.get_device_capability(device)),
            "cuda": torch.version.cuda,
            "tf32": torch.backends.cuda.matmul.allow_tf32,
        }
    return description


def matmul_rate(
    dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu", side: int = 2048, rounds: int = 7
) -> float:
    """Operations per second of a square matrix product (a multiply-add counts as two), in the best round.

    The best round and not the median, since other processes can only slow it down.
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
    """Seconds of each run of each candidate; every round times all of them once.

    On a GPU a timing is the mean of so many runs that waiting for the GPU and starting the first kernel hardly count.

    Args:
        candidates: Functions to run, by name.
        rounds: Timed runs of each candidate.
        warm: Untimed runs of each candidate before the first round.
        device: Device that they compute on; on a GPU a timing ends when the GPU is idle.
        seconds: No round starts after this time; at least one is run.
    """
    on_gpu = torch.device(device).type == "cuda"
    wait = torch.cuda.synchronize if on_gpu else _nothing
    times: dict[str, list[float]] = {name: [] for name in candidates}
    repeats = dict.fromkeys(candidates, 1)

    def measure(run: Callable[[], object], repeats: int) -> float:
        wait()
        start = time.perf_counter()
        for _ in range(repeats):
            run()
        wait()
        return (time.perf_counter() - start) / repeats

    for name, run in candidates.items():
        for _ in range(warm):
            run()
        if on_gpu:
            repeats[name] = max(1, min(MOST_REPEATS, round(TIMING_SECONDS / measure(run, 1))))
    first_start = time.perf_counter()
    for _ in range(rounds):
        for name, run in candidates.items():
            times[name].append(measure(run, repeats[name]))
        if seconds is not None and time.perf_counter() - first_start > seconds:
            break
    return times


def runnable(
    makers: Mapping[str, Callable[[], Callable[[], object]]],
) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
    """The candidates that run, each made and run once, and why the others do not, such as for want of memory."""
    runs, reasons = {}, {}
    for name, make in makers.items():
        try:
            run = make()
            run()
        except Exception as error:  # of any kernel or library
            reasons[name] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        else:
            runs[name] = run
    return runs, reasons


def medians(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median run of each candidate, in seconds."""
    return {name: statistics.median(runs) for name, runs in times.items()}


def ratio(times: Sequence[float], first: Sequence[float]) -> dict[str, Any]:
    """How many times longer than the first candidate one took in the same turns: the median, and its quartiles."""
    ratios = [mine / other for mine, other in zip(times, first, strict=True)]
    low, median, high = statistics.quantiles(ratios, method="inclusive") if len(ratios) > 1 else ratios * 3
    return {"ratio": median, "quartiles": [round(low, 3), round(high, 3)]}


def training(run: Callable[[], torch.Tensor], leaves: Sequence[torch.Tensor]) -> Callable[[], object]:
    """`run` and its gradients for `leaves`, from a fixed random gradient of its result."""
    with torch.no_grad():
        gradient = torch.randn_like(run())
    return lambda: torch.autograd.grad(run(), leaves, gradient)


def peak_memory(
    make: Callable[..., Callable[[], object]], *args: Any, device: str = "cpu", runs: int = 2
) -> int | None:
    """Peak bytes of `make(*args)()` beyond what `make` allocated; None if the process died.

    On a CPU it is the growth of the resident set of a new process, so `make` and `args` must be picklable. On a GPU the
    allocator counts it.
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
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_measure_growth, args=(sender, make, args, runs, torch.get_num_threads()))
    process.start()
    sender.close()
    try:
        growth: int | None = receiver.recv()
    except EOFError:
        growth = None
    process.join()
    return growth


def peak_of_tensors(run: Callable[[], object]) -> int:
    """Peak bytes of all tensors on the CPU that a run allocates, as the profiler counts them."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    events = profile.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return max(itertools.accumulate(change for _, change in changes))


def _measure_growth(pipe: Any, make: Callable[..., Callable[[], object]], args: Any, runs: int, threads: int) -> None:
    torch.set_num_threads(threads)
    run = make(*args)
    gc.collect()
    before = resident()
    _reset_peak()
    for _ in range(runs):
        run()
    pipe.send(max(0, peak_resident() - before))


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def resident() -> int:
    """Resident memory of this process, in bytes."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return peak_resident()


def peak_resident() -> int:
    """Peak resident memory of this process, in bytes."""
    try:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def parse_options(
    description: str, name: str, add_options: Callable[[argparse.ArgumentParser], None] | None = None
) -> argparse.Namespace:
    """The options of every benchmark, --quick, --device, --threads and --output, and those of `add_options`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="tiny sizes and few rounds, to test the benchmark itself")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--budget", type=float, default=math.inf, help="seconds after which no case starts [none]")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument(
        "--output", type=Path, default=None, help=f"JSON file (default: {RESULTS.name}/{name}-DEVICE.json)"
    )
    if add_options is not None:
        add_options(parser)
    options = parser.parse_args()
    options.deadline = time.perf_counter() + options.budget
    torch.set_num_threads(options.threads)
    if options.output is None and not options.quick:
        options.output = RESULTS / f"{name}-{device_slug(options.device)}.json"
    return options


def in_time(options: argparse.Namespace, *case: object) -> bool:
    """Whether the budget allows another case; prints it if not."""
    if time.perf_counter() < options.deadline:
        return True
    print("not measured, the budget is spent:", *case, flush=True)
    return False


def device_slug(device: str | torch.device) -> str:
    """The device in names of result files, such as cpu or cuda-H200."""
    if torch.device(device).type != "cuda":
        return torch.device(device).type
    words = torch.cuda.get_device_name(device).split()
    return "-".join(["cuda", *(word for word in words if not re.fullmatch(r"NVIDIA|\d+GB|HBM\w*", word))])


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows as aligned text with a header; numbers with three digits, None as a dash."""
    columns = columns or list(dict.fromkeys(name for row in rows for name in row))
    lines = [list(columns), *([_cell(row.get(name)) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in lines)


def save(path: Path | None, description: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write machine, commit and rows as JSON; without a path, nothing."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": dict(description), "commit": commit(), "rows": list(rows)}
    path.write_text(json.dumps(result, indent=1) + "\n")


def commit() -> str | None:
    """The commit that is checked out, with "-dirty" if the measured code has changes; None outside a repository."""
    head = _git("rev-parse", "--short", "HEAD")
    return head and head + ("-dirty" if _git("status", "--porcelain", "--", *CODE) else "")


def _git(*command: str) -> str | None:
    try:
        result = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, timeout=10)
    except OSError:
        return None
    return result.stdout.strip() or None


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1000 else str(round(value))


def _nothing() -> None:
    pass

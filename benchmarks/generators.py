"""Whole models: generator, discriminator and generator step of each preset in one table.

python -m benchmarks.generators [--only 'stylenat-*'] [--quick] prints a table and writes JSON into benchmarks/results:
parameters, multiply-adds (of one image, with gradients where there are any), seconds per image, share of the machine's
matmul rate, and peak resident memory. Each row is measured in a process of its own. On a CPU each runs with the default
allocator and with `measure.TUNED_MALLOC`, as the command `ganblocks` configures it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from assemblies import GAN, check, read
from assemblies.multi_stage import MultiStage
from benchmarks import measure
from blocks.common.pretrained.frozen_module import skip_weights
from blocks.common.weight_cache import frozen_weights
from registry import Spec, catalogue
from registry.kernels import counting

SIDE = 1024  # of the matrix product that gives the matmul rate
ALLOCATORS: dict[str, dict[str, str]] = {"default": {}, "tuned": measure.TUNED_MALLOC}
PASSES = ("forward", "discriminator", "step")
"""Images from latents; discriminator with gradients of its input and weights; generator gradients through it."""
LARGEST_TRAINED = 256  # px; above, a training step takes minutes and tens of gigabytes
BATCHES = {
    "stylenat-*": {"forward": (1, 4), "discriminator": (4,), "step": (4,)},
    "styleformer-*": {"forward": (1, 4, 8), "discriminator": (8,), "step": (8,)},
    "vitgan-*": {"forward": (1, 4, 16), "discriminator": (16,), "step": (8,)},
    "*": {"forward": (1, 4), "discriminator": (4,), "step": (4,)},
}
COLUMNS = (
    "preset", "px", "pass", "batch", "allocator", "M parameters", "G multiply-adds", "s/image", "best s/image",
    "matmul rate %", "peak MB",
)  # fmt: skip
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Case(NamedTuple):
    """A row of the table."""

    preset: str
    work: str
    batch: int
    allocator: str = "default"
    device: str = "cpu"
    threads: int = 2
    precision: str = "float32"
    compiled: bool = False
    rounds: int = 7
    seconds: float = 20.0


class Networks(NamedTuple):
    """The networks of a case; discriminator and loss are None if only the generator is needed."""

    generator: Any
    discriminator: Any = None
    loss: Any = None


def cases(presets: list[str], options: argparse.Namespace) -> Iterator[Case]:
    """The rows of a table, each with every allocator."""
    for preset in presets:
        spec = read(preset)
        channels_and_side = check(spec)["generator"].image
        assert channels_and_side is not None
        trained = isinstance(spec, GAN.Spec) and max(channels_and_side[1:]) <= LARGEST_TRAINED
        batches = next(batches for pattern, batches in BATCHES.items() if fnmatch(preset, pattern))
        for work in options.passes:
            for batch in (1,) if options.quick else options.batches or batches[work]:
                for allocator in options.allocators:
                    if work == "forward" or trained:
                        yield Case(
                            preset,
                            work,
                            batch,
                            allocator,
                            device=options.device,
                            threads=options.threads,
                            precision=options.precision,
                            compiled=options.compile,
                            rounds=1 if options.quick else 7,
                            seconds=0.0 if options.quick else options.seconds,
                        )


def row_of(case: Case) -> dict[str, Any]:
    """A case measured in a process of its own, or the reason why that failed."""
    command = [sys.executable, "-m", "benchmarks.generators", "--row", json.dumps(case._asdict())]
    environment = {name: value for name, value in os.environ.items() if name not in measure.TUNED_MALLOC}
    result = subprocess.run(
        command, env=environment | ALLOCATORS[case.allocator], capture_output=True, text=True, cwd=Path.cwd()
    )
    row = {"preset": case.preset, "pass": case.work, "batch": case.batch, "allocator": case.allocator}
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
        killed = f"killed by signal {-result.returncode}; it may have run out of memory"
        return row | {"skipped": killed if result.returncode < 0 else lines[-1]}
    return row | json.loads(result.stdout.splitlines()[-1])


def measure_case(case: Case) -> dict[str, Any]:
    """The columns of a case, measured in this process."""
    torch.set_num_threads(case.threads)
    torch.manual_seed(0)
    spec = read(case.preset)
    networks = build(spec, case)
    run = make_run(networks, case, case.device)
    dtype, on_gpu = PRECISIONS[case.precision], torch.device(case.device).type == "cuda"
    a, b = torch.randn(2, SIDE, SIDE, device=case.device).to(dtype)
    product = torch.empty_like(a)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    candidates = {"matmul": lambda: [torch.mm(a, b, out=product) for _ in range(3)], "run": run}
    with frozen_weights() if case.work == "forward" else nullcontext():  # as `ganblocks sample` does
        times = measure.interleaved(candidates, rounds=case.rounds, device=case.device, seconds=case.seconds)
    peak = torch.cuda.max_memory_allocated() if on_gpu else measure.peak_resident()
    rate = 3 * 2 * SIDE**3 / min(times["matmul"])
    multiply_adds = count(spec, case._replace(batch=1, compiled=False))
    best = min(times["run"]) / case.batch
    network = networks.discriminator if case.work == "discriminator" else networks.generator
    return {
        "px": "x".join(map(str, dict.fromkeys(networks.generator.resolution))),
        "M parameters": sum(parameter.numel() for parameter in network.parameters()) / 1e6,
        "G multiply-adds": multiply_adds / 1e9,
        "s/image": statistics.median(times["run"]) / case.batch,
        "best s/image": best,
        "matmul rate %": 100 * 2 * multiply_adds / best / rate,
        "matmul GFLOP/s": rate / 1e9,
        "peak MB": peak / 1e6,
        "runs": len(times["run"]),
        "precision": case.precision,
        "compiled": case.compiled,
    }


def build(spec: Spec, case: Case) -> Networks:
    """The networks of a preset that a case needs, on its device, without pretrained weights."""
    if case.work == "forward" or not isinstance(spec, GAN.Spec):
        with skip_weights():
            generator = (spec.generator if isinstance(spec, GAN.Spec) else spec).build()
        networks = Networks(generator.to(case.device, memory_format=torch.channels_last).eval().requires_grad_(False))
    else:
        with skip_weights():
            gan = spec.build().to(case.device).train()
        networks = Networks(gan.generator, gan.discriminator, gan.loss)
        if case.work == "discriminator":
            networks.generator.requires_grad_(False)
        else:
            networks.discriminator.requires_grad_(False)
    if case.compiled:
        for network in networks:
            if isinstance(network, nn.Module):
                network.compile()
    return networks


def make_run(networks: Networks, case: Case, device: str) -> Callable[[], object]:
    """The timed function."""
    generator, discriminator, loss = networks
    z = torch.randn(case.batch, generator.z_dim, device=device)
    c = None
    if generator.cond_dim:
        c = torch.nn.functional.one_hot(torch.arange(case.batch) % generator.cond_dim, generator.cond_dim)
        c = c.float().to(device)
    dtype = PRECISIONS[case.precision]
    precision = nullcontext() if dtype == torch.float32 else torch.autocast(z.device.type, dtype)
    if case.work == "forward":

        def run() -> Tensor:
            with torch.no_grad(), precision:
                image: Tensor = generator(z, c)
                return image

    elif case.work == "discriminator":
        shape = (case.batch, generator.image_channels, *generator.resolution)
        real = torch.randn(shape, device=device).to(memory_format=torch.channels_last).requires_grad_()

        def run() -> Tensor:
            with precision:
                value = discriminator(real, c).float().square().mean()
            value.backward()
            clear_gradients(discriminator)
            real.grad = None
            return value

    else:

        def run() -> Tensor:
            with precision:
                value: Tensor = loss.generator(discriminator(generator(z, c), c).float())
            value.backward()
            clear_gradients(generator)
            return value

    return run


def clear_gradients(network: nn.Module) -> None:
    """Set all gradients to None, as an optimizer does before the next step."""
    for parameter in network.parameters():
        parameter.grad = None


def count(spec: Spec, case: Case) -> int:
    """Multiply-adds of one image in matrix products, convolutions and attention, counted on meta tensors."""
    with torch.device("meta"), counting():
        run = make_run(
            build(spec, case._replace(device="meta", precision="float32")), case._replace(precision="float32"), "meta"
        )
        with FlopCounterMode(display=False) as counter:
            run()
    return counter.get_total_flops() // 2


def add_options(parser: argparse.ArgumentParser) -> None:
    presets = "preset names, with * and ?, or spec files [default: every preset]"
    parser.add_argument("--only", nargs="+", metavar="PRESET", help=presets)
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=PASSES, help="passes to measure")
    parser.add_argument("--batches", nargs="+", type=int, help="batch sizes [default: chosen by preset]")
    parser.add_argument("--allocators", nargs="+", choices=ALLOCATORS, help="[default: both on a CPU]")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="precision of autocast")
    parser.add_argument("--compile", action="store_true", help="compile the networks with torch.compile")
    parser.add_argument("--seconds", type=float, default=20.0, help="no round of a row starts after this time")
    parser.add_argument("--row", type=json.loads, help=argparse.SUPPRESS)


def select_presets(only: list[str] | None) -> list[str]:
    """The presets with a single generator, or those of them that `only` names."""
    known = [name for name in catalogue.presets() if not issubclass(read(name).block, MultiStage)]
    if only is None:
        return known
    presets = [name for pattern in only for name in known if fnmatch(name, pattern)]
    files = [name for name in only if Path(name).is_file()]
    if unknown := [name for name in only if name not in files and not any(fnmatch(each, name) for each in known)]:
        raise SystemExit(f"--only: no preset or file {', '.join(unknown)}; presets: {', '.join(known) or 'none'}")
    return list(dict.fromkeys([*presets, *files]))


def main() -> None:
    options = measure.parse_options(__doc__ or "", "generators", add_options)
    if options.row:
        print(json.dumps(measure_case(Case(**options.row))))
        return
    on_cpu = torch.device(options.device).type == "cpu"
    options.allocators = options.allocators or (list(ALLOCATORS) if on_cpu and not options.quick else ["tuned"])
    machine, rows = measure.machine(options.device), []
    for case in cases(select_presets(options.only), options):
        rows.append(row_of(case))
        lines = measure.table(rows[-1:], COLUMNS).splitlines()
        print(lines[-1] if "skipped" not in rows[-1] else f"{case.preset} {case.work}: {rows[-1]['skipped']}")
        sys.stdout.flush()
        measure.save(options.output, machine, rows)  # after each row, since a whole table takes long
    print(machine, measure.table([row for row in rows if "skipped" not in row], COLUMNS), sep="\n")


if __name__ == "__main__":
    main()

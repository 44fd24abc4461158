"""Whole models: each preset's generator, discriminator and generator step in one table.

python -m benchmarks.generators [--only 'stylenat-*'] [--quick] prints a table and writes JSON into benchmarks/results:
parameters and multiply-adds (of one image, and of its gradients where there are any), seconds an image, the share of
the machine's float32 matmul rate that is reached, and the peak of the resident memory. Each row is a process of its
own; on a CPU each runs under the default allocator and under one that keeps large temporaries (see
`measure.ALLOCATOR`), which the command `ganblocks` sets for itself.
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

SIDE = 1024  # of the matrix product that everything is compared with
KEPT = dict(zip(measure.ALLOCATOR, ("0", "68719476736"), strict=True))
ALLOCATORS = {"default": {}, "kept": KEPT}
PASSES = ("forward", "discriminator", "step")
"""Images from latents; logits and the gradients of images and discriminator; images, logits and the generator's."""
LARGEST_TRAINED = 256  # px; above, one training step is minutes and tens of gigabytes
BATCHES = {  # the batches that the papers' own code was measured at
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
    """A row of the table: what is measured, and how."""

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
    """What a case runs; a generator alone has no discriminator."""

    generator: Any
    discriminator: Any = None
    loss: Any = None


def cases(presets: list[str], asked: argparse.Namespace) -> Iterator[Case]:
    """The rows of a table, each under both allocators where there are two."""
    for preset in presets:
        spec = read(preset)
        channels_and_side = check(spec)["generator"].image
        assert channels_and_side is not None
        trained = isinstance(spec, GAN.Spec) and max(channels_and_side[1:]) <= LARGEST_TRAINED
        batches = next(found for pattern, found in BATCHES.items() if fnmatch(preset, pattern))
        for work in asked.passes:
            for batch in (1,) if asked.quick else asked.batches or batches[work]:
                for allocator in asked.allocators:
                    if work == "forward" or trained:
                        yield Case(
                            preset, work, batch, allocator, asked.device, asked.threads, asked.precision, asked.compile,
                            *((1, 0.0) if asked.quick else (7, asked.seconds)),
                        )  # fmt: skip


def row_of(case: Case) -> dict[str, Any]:
    """A case measured in a process of its own, or the reason why it could not be."""
    command = [sys.executable, "-m", "benchmarks.generators", "--row", json.dumps(case._asdict())]
    kept = {name: value for name, value in os.environ.items() if name not in measure.ALLOCATOR}
    ended = subprocess.run(
        command, env=kept | ALLOCATORS[case.allocator], capture_output=True, text=True, cwd=Path.cwd()
    )
    told = {"preset": case.preset, "pass": case.work, "batch": case.batch, "allocator": case.allocator}
    if ended.returncode:
        died = f"ended by signal {-ended.returncode}, for want of memory perhaps"
        said = ended.stderr.strip().splitlines()
        return told | {"why not": died if ended.returncode < 0 or not said else said[-1]}
    return told | json.loads(ended.stdout.splitlines()[-1])


def measured(case: Case) -> dict[str, Any]:
    """What a row tells of a case, measured here."""
    torch.set_num_threads(case.threads)
    torch.manual_seed(0)
    spec = read(case.preset)
    networks = build(spec, case)
    run = runs(networks, case, case.device)
    dtype, on_gpu = PRECISIONS[case.precision], torch.device(case.device).type == "cuda"
    a, b = torch.randn(2, SIDE, SIDE, device=case.device).to(dtype)
    product = torch.empty_like(a)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    everything = {"matmul": lambda: [torch.mm(a, b, out=product) for _ in range(3)], "run": run}
    with frozen_weights() if case.work == "forward" else nullcontext():  # as `ganblocks sample` does
        times = measure.interleaved(everything, rounds=case.rounds, device=case.device, seconds=case.seconds)
    peak = torch.cuda.max_memory_allocated() if on_gpu else measure.highest_resident()
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
    """The networks of a preset that a case needs, on its device; their speed is the same for any weights."""
    if case.work == "forward" or not isinstance(spec, GAN.Spec):
        with skip_weights():
            generator = (spec.generator if isinstance(spec, GAN.Spec) else spec).build()
        made = Networks(generator.to(case.device, memory_format=torch.channels_last).eval().requires_grad_(False))
    else:
        with skip_weights():
            gan = spec.build().to(case.device).train()
        made = Networks(gan.generator, gan.discriminator, gan.loss)
        if case.work == "discriminator":
            made.generator.requires_grad_(False)
        else:
            made.discriminator.requires_grad_(False)
    if case.compiled:
        for network in made:
            if isinstance(network, nn.Module):
                network.compile()
    return made


def runs(networks: Networks, case: Case, device: str) -> Callable[[], object]:
    """What is timed."""
    generator, discriminator, loss = networks
    z = torch.randn(case.batch, generator.z_dim, device=device)
    c = None
    if generator.cond_dim:
        c = torch.nn.functional.one_hot(torch.arange(case.batch) % generator.cond_dim, generator.cond_dim)
        c = c.float().to(device)
    low = nullcontext() if case.precision == "float32" else torch.autocast(z.device.type, PRECISIONS[case.precision])
    if case.work == "forward":

        def run() -> Tensor:
            with torch.no_grad(), low:
                image: Tensor = generator(z, c)
                return image

    elif case.work == "discriminator":
        shape = (case.batch, generator.image_channels, *generator.resolution)
        real = torch.randn(shape, device=device).to(memory_format=torch.channels_last).requires_grad_()

        def run() -> Tensor:
            with low:
                value = discriminator(real, c).float().square().mean()
            value.backward()
            forget(discriminator)
            real.grad = None
            return value

    else:

        def run() -> Tensor:
            with low:
                value: Tensor = loss.generator(discriminator(generator(z, c), c).float())
            value.backward()
            forget(generator)
            return value

    return run


def forget(network: nn.Module) -> None:
    """The gradients, as an optimiser would before the next step."""
    for parameter in network.parameters():
        parameter.grad = None


def count(spec: Spec, case: Case) -> int:
    """Multiply-adds of one image, in matrix products, convolutions and attention, counted without computing."""
    with torch.device("meta"), counting():
        run = runs(
            build(spec, case._replace(device="meta", precision="float32")), case._replace(precision="float32"), "meta"
        )
        with FlopCounterMode(display=False) as counter:
            run()
    return counter.get_total_flops() // 2


def options(parser: argparse.ArgumentParser) -> None:
    presets = "presets by name, with * and ?, or spec files; by default every preset"
    parser.add_argument("--only", nargs="+", metavar="PRESET", help=presets)
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=PASSES, help="what to measure")
    parser.add_argument("--batches", nargs="+", type=int, help="batch sizes, instead of each preset's own")
    parser.add_argument("--allocators", nargs="+", choices=ALLOCATORS, help="by default both on a CPU")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="under autocast")
    parser.add_argument("--compile", action="store_true", help="torch.compile the networks")
    parser.add_argument("--seconds", type=float, default=20.0, help="no new round of a row starts after so long")
    parser.add_argument("--row", type=json.loads, help=argparse.SUPPRESS)


def chosen(only: list[str] | None) -> list[str]:
    """The presets that make images and that `only` names."""
    known = [name for name in catalogue.presets() if not issubclass(read(name).block, MultiStage)]
    if only is None:
        return known
    found = [name for pattern in only for name in known if fnmatch(name, pattern)]
    files = [name for name in only if Path(name).is_file()]
    if lost := [name for name in only if name not in files and not any(fnmatch(each, name) for each in known)]:
        raise SystemExit(f"no preset and no file is called {', '.join(lost)}; presets: {', '.join(known) or 'none'}")
    return list(dict.fromkeys([*found, *files]))


def main() -> None:
    asked = measure.arguments(__doc__ or "", "generators", options)
    if asked.row:
        print(json.dumps(measured(Case(**asked.row))))
        return
    on_cpu = torch.device(asked.device).type == "cpu"
    asked.allocators = asked.allocators or (list(ALLOCATORS) if on_cpu and not asked.quick else ["kept"])
    told, rows = measure.machine(asked.device), []
    for case in cases(chosen(asked.only), asked):
        rows.append(row_of(case))
        lines = measure.table(rows[-1:], COLUMNS).splitlines()
        print(lines[-1] if "why not" not in rows[-1] else f"{case.preset} {case.work}: {rows[-1]['why not']}")
        sys.stdout.flush()
        measure.save(asked.output, told, rows)  # after each row: a whole table takes long
    print(told, measure.table([row for row in rows if "why not" not in row], COLUMNS), sep="\n")


if __name__ == "__main__":
    main()

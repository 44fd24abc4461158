"""Whole models: generator, discriminator and generator step of each preset in one table.

python -m benchmarks.generators [--only 'stylenat-*'] [--quick] prints a table and writes JSON into benchmarks/results:
parameters, multiply-adds (of one image, with gradients where there are any), seconds per image, share of the machine's
matmul rate, and peak resident memory. Each case is measured in a process of its own. On a CPU each runs with the
default allocator and with `measure.TUNED_MALLOC`, as the command `ganblocks` configures it.

Several precisions, and with --reference MODULE:CALLABLE other code, run in turns (A B A B) in that process; the table
has the ratio of their times, the median over the turns and its quartiles. CALLABLE(preset, pass, batch) returns the
function to time, or None if it has none for this case.
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
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from assemblies import GAN, check, read
from assemblies.inference import Precision
from assemblies.multi_stage import MultiStage
from benchmarks import measure
from blocks.common.pretrained.frozen_module import skip_weights
from blocks.families import to_channels_last
from ganblocks.malloc import trim_malloc
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
    "preset", "px", "pass", "batch", "allocator", "candidate", "M parameters", "G multiply-adds", "s/image",
    "best s/image", "ratio", "quartiles", "matmul rate %", "peak MB",
)  # fmt: skip
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
OF_INFERENCE: dict[str, Precision] = {"float32": "fp32", "bf16": "bf16", "fp16": "fp16"}


class Case(NamedTuple):
    """What is measured in a process: a row of the table for each precision, and one for other code."""

    preset: str
    work: str
    batch: int
    allocator: str = "default"
    device: str = "cpu"
    threads: int = 2
    precision: str = "float32"
    precisions: tuple[str, ...] = ("float32",)
    reference: str | None = None
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
                            precisions=tuple(options.precision),
                            reference=options.reference,
                            compiled=options.compile,
                            rounds=1 if options.quick else 7,
                            seconds=0.0 if options.quick else options.seconds,
                        )


def rows_of(case: Case) -> list[dict[str, Any]]:
    """A case measured in a process of its own, or a row with the reason why that failed."""
    command = [sys.executable, "-m", "benchmarks.generators", "--row", json.dumps(case._asdict())]
    environment = {name: value for name, value in os.environ.items() if name not in measure.TUNED_MALLOC}
    result = subprocess.run(
        command, env=environment | ALLOCATORS[case.allocator], capture_output=True, text=True, cwd=Path.cwd()
    )
    row = {"preset": case.preset, "pass": case.work, "batch": case.batch, "allocator": case.allocator}
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
        killed = f"killed by signal {-result.returncode}; it may have run out of memory"
        return [row | {"skipped": killed if result.returncode < 0 else lines[-1]}]
    return [row | measured for measured in json.loads(result.stdout.splitlines()[-1])]


def measure_case(case: Case) -> list[dict[str, Any]]:
    """The rows of a case, measured in this process."""
    torch.set_num_threads(case.threads)
    torch.manual_seed(0)
    spec = read(case.preset)
    networks = build(spec, case)
    trim_malloc()  # as commands do after they have read a model
    on_gpu = torch.device(case.device).type == "cuda"
    resident = measure.resident()
    a, b = torch.randn(2, SIDE, SIDE, device=case.device).to(PRECISIONS[case.precisions[0]])
    product = torch.empty_like(a)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    runs = {case.precisions[0]: candidate(networks, case, case.precisions[0])}
    for _ in range(2):
        runs[case.precisions[0]]()
    peak = torch.cuda.max_memory_allocated() if on_gpu else measure.peak_resident()
    runs |= {precision: candidate(networks, case, precision) for precision in case.precisions[1:]}
    if case.reference and (run := reference(case)) is not None:
        runs["reference"] = run
    candidates = {"matmul": lambda: [torch.mm(a, b, out=product) for _ in range(3)], **runs}
    times = measure.interleaved(candidates, rounds=case.rounds, device=case.device, seconds=case.seconds)
    rate = 3 * 2 * SIDE**3 / min(times["matmul"])
    multiply_adds = count(spec, case._replace(batch=1, compiled=False))
    network = networks.discriminator if case.work == "discriminator" else networks.generator
    rows = []
    for name in runs:
        best = min(times[name]) / case.batch
        row = {
            "candidate": name,
            "px": "x".join(map(str, dict.fromkeys(networks.generator.resolution))),
            "M parameters": sum(parameter.numel() for parameter in network.parameters()) / 1e6,
            "G multiply-adds": multiply_adds / 1e9,
            "s/image": statistics.median(times[name]) / case.batch,
            "best s/image": best,
            "matmul rate %": 100 * 2 * multiply_adds / best / rate,
            "matmul GFLOP/s": rate / 1e9,
            "runs": len(times[name]),
            "compiled": case.compiled,
        }
        rows.append(row | measure.ratio(times[name], times[case.precisions[0]]))
    rows[0] |= {"peak MB": peak / 1e6}
    if not on_gpu:
        rows[0] |= {"resident MB": resident / 1e6}  # before the first call
        rows[0] |= {"tensors MB": measure.peak_of_tensors(runs[case.precisions[0]]) / 1e6}
    return rows


def candidate(networks: Networks, case: Case, precision: str) -> Callable[[], object]:
    """The timed function in a precision; images are made by an optimised generator, as in commands."""
    case = case._replace(precision=precision)
    if case.work != "forward" or case.compiled:
        return make_run(networks, case, case.device)
    generator = networks.generator.optimize_for_inference(precision=OF_INFERENCE[precision])
    return make_run(Networks(generator), case._replace(precision="float32"), case.device)


def reference(case: Case) -> Callable[[], object] | None:
    """The function to time of the code that `--reference` names; None if it has none for this case."""
    module, _, name = str(case.reference).partition(":")
    run: Callable[[], object] | None = getattr(import_module(module), name)(case.preset, case.work, case.batch)
    return run


def build(spec: Spec, case: Case) -> Networks:
    """The networks of a preset that a case needs, on its device, without pretrained weights or text encoders."""
    spec = without_condition(spec)
    if case.work == "forward" or not isinstance(spec, GAN.Spec):
        with skip_weights(), torch.device(case.device):
            generator = (spec.generator if isinstance(spec, GAN.Spec) else spec).build()
        networks = Networks(to_channels_last(generator.to(case.device)).eval().requires_grad_(False))
    else:
        with skip_weights(), torch.device(case.device):
            gan = to_channels_last(spec.build().to(case.device)).train()  # as the trainer
        networks = Networks(gan.generator, gan.discriminator, gan.loss)
        if case.work == "discriminator":
            networks.generator.to("meta")  # its weights would count as memory of the discriminator
        else:
            networks.discriminator.requires_grad_(False)
    if case.compiled:
        for network in networks:
            if isinstance(network, nn.Module):
                network.compile()
    return networks


def without_condition(spec: Spec) -> Spec:
    """The spec with a generator that takes conditions c as they are: no pass encodes captions or images."""
    if isinstance(spec, GAN.Spec):
        return spec.model_copy(update={"generator": without_condition(spec.generator), "regularizers": ()})
    return spec.model_copy(update={"condition": None}) if getattr(spec, "condition", None) is not None else spec


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
    from torch.utils.flop_counter import FlopCounterMode  # here, because it imports Triton: 70 MB

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
    several = "precisions, measured in turns [float32]"
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=("float32",), help=several)
    parser.add_argument("--reference", metavar="MODULE:CALLABLE", help="other code, measured in turns with ours")
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
        measured = rows_of(case)
        rows += measured
        for line, row in zip(measure.table(measured, COLUMNS).splitlines()[1:], measured, strict=True):
            print(line if "skipped" not in row else f"{case.preset} {case.work}: {row['skipped']}")
        sys.stdout.flush()
        measure.save(options.output, machine, rows)  # after each row, since a whole table takes long
    print(machine, measure.table([row for row in rows if "skipped" not in row], COLUMNS), sep="\n")


if __name__ == "__main__":
    main()

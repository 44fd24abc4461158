"""Memory, communication and time of a training, and what to change where it does not fit.

Replicated: each of n processes holds everything, and gradients are averaged by a ring all-reduce, which sends
2 (n - 1) / n of their bytes. Sharded (fsdp): parameters, gradients, moments and the average are divided by n, and each
optimizer step gathers the parameters twice and scatters the gradients once. ZeRO, Rajbhandari et al. 2019,
https://arxiv.org/abs/1910.02054, section 7.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from assemblies import GAN, check, read
from blocks.common.pretrained.frozen_module import FrozenModule
from ganblocks.errors import RunError, UsageError
from ganblocks.precision import Precision
from ganblocks.sampling.load import run_of
from ganblocks.training.estimate.fitting import Change, changes_that_fit
from ganblocks.training.estimate.gpus import gpu_named
from ganblocks.training.estimate.step_costs import StepCosts, peak_bytes, step_costs
from ganblocks.training.options import Strategy
from ganblocks.training.run.folder import RunFolder
from ganblocks.training.step.sharding import check_document
from registry import Spec

EFFICIENCY = 0.3  # share of a GPU's peak rate that is assumed where no rate was measured
FREE = 0.92  # share of a GPU's memory for tensors; the rest is CUDA's context and fragmentation
WORKSPACE = 1_250_000_000  # bytes that cuDNN took for float32 convolutions of styleformer-cifar10-32, on an H200
NOTHING_FITS = "a pass of one image does not fit with any option; take a GPU with more memory"


@dataclass(frozen=True)
class Estimate:
    """What a training needs. Memory in bytes and operations are those of one process.

    Args:
        parameters: Number of parameters by network, without frozen networks such as backbones.
        batch_size: Images in a step, over all processes.
        processes: Number of processes.
        strategy: replicate or fsdp.
        precision: Of the forward passes.
        micro_batch: Images of a process in one pass; None for all.
        memory: Parameters and buffers (frozen networks included), optimizer (Adam's moments), averages, gradients,
            activations (with temporary tensors), workspace (of float32 convolutions on a GPU), total.
        communication: Bytes that a process sends in a step.
        flops: Floating-point operations of a step.
        flops_per_second: The rate that the time follows from; None without a GPU or a measured rate.
        kimg_per_hour: Thousands of images per hour, without time for communication and data.
        hours: Hours for the document's kimg.
        gpu: Name of the GPU.
        gpu_memory: Its memory.
        fits: Whether the total fits 92 % of that.
        changes: With which it fits, where it does not; the first one costs least.
    """

    parameters: dict[str, int]
    batch_size: int
    processes: int
    strategy: Strategy
    precision: Precision
    micro_batch: int | None
    memory: dict[str, int]
    communication: int
    flops: float
    flops_per_second: float | None = None
    kimg_per_hour: float | None = None
    hours: float | None = None
    gpu: str | None = None
    gpu_memory: float | None = None
    fits: bool | None = None
    changes: tuple[Change, ...] = ()

    @property
    def advice(self) -> tuple[str, ...]:
        """What to change where it does not fit."""
        return (NOTHING_FITS,) if self.fits is False and not self.changes else tuple(map(str, self.changes))

    def to_dict(self) -> dict[str, Any]:
        """The estimate as JSON data."""
        changes = [each._asdict() for each in self.changes]
        return asdict(self) | {"changes": changes, "advice": self.advice}


def estimate(
    spec: Spec,
    *,
    processes: int = 1,
    strategy: Strategy = "replicate",
    precision: Precision = "fp32",
    micro_batch: int | None = None,
    gpu: str | None = None,
    flops_per_second: float | None = None,
) -> Estimate:
    """What the training of a GAN needs, without allocating its networks.

    Args:
        spec: A `GAN.Spec`.
        processes: Number of processes, with a GPU each.
        strategy: replicate, or fsdp for sharded networks.
        precision: fp32, tf32, bf16 or fp16.
        micro_batch: Images of a process in one pass; None for all.
        gpu: A name from `GPUS`, for its memory and, at 30 % of its peak, for the time.
        flops_per_second: The rate that a process reaches, measured; instead of the GPU's.

    Raises:
        SpecError: The document is not valid.
        UsageError: The batch does not split evenly, or the GPU is not known.
        RunError: The networks of the document cannot be sharded.
    """
    check(spec)
    if strategy == "fsdp":
        check_document(spec)
    if spec.batch_size % processes:
        raise UsageError(f"--processes: {spec.batch_size} images do not split evenly over {processes} processes")
    local, device = int(spec.batch_size) // processes, None if gpu is None else gpu_named(gpu)
    costs = step_costs(spec, local, precision, micro_batch)
    with torch.device("meta"):
        gan: GAN = spec.build()
    workspace = WORKSPACE if device is not None and precision == "fp32" and costs.convolves else 0
    memory = _memory(spec, gan, costs, processes if strategy == "fsdp" else 1, workspace)
    peak = None if device is None else device.flops
    seconds = None
    if flops_per_second is not None:
        seconds = costs.flops / flops_per_second
    elif peak is not None:
        mixed = costs.flops - costs.float32_flops
        seconds = (mixed / peak[precision] + costs.float32_flops / peak["fp32"]) / EFFICIENCY
    kimg_per_hour = None if seconds is None else 3.6 * int(spec.batch_size) / seconds
    room = None if device is None else device.memory * FREE
    fits = None if room is None else memory["total"] <= room
    changes: tuple[Change, ...] = ()
    if fits is False and room is not None:
        fixed = {"now": memory["total"] - memory["activations"]}
        fixed["bf16"] = fixed["now"] - workspace
        if strategy == "replicate" and processes > 1 and _shardable(spec):
            sharded = _memory(spec, gan, costs, processes, workspace)
            if sharded["total"] < memory["total"]:
                fixed["fsdp"] = sharded["total"] - sharded["activations"]

        def activations(changed: Spec, changed_precision: Precision, size: int) -> int:
            return max(0, peak_bytes(changed, local, changed_precision, size) - costs.gradient_bytes)

        changes = changes_that_fit(spec, precision, micro_batch or local, room, fixed, activations)
    return Estimate(
        {name: sum(p.numel() for p in getattr(gan, name).parameters()) for name in ("generator", "discriminator")},
        int(spec.batch_size),
        processes,
        strategy,
        precision,
        micro_batch,
        memory,
        _communication(gan, costs, processes, strategy),
        costs.flops,
        None if seconds is None else costs.flops / seconds,
        kimg_per_hour,
        None if kimg_per_hour is None else float(spec.kimg) / kimg_per_hour,
        gpu,
        None if device is None else device.memory,
        fits,
        changes,
    )


def measured_rate(run: str | Path) -> float:
    """Floating-point operations per second that a process of a finished run reached, by its document and log.

    Raises:
        RunError: The run has no log lines.
    """
    folder = RunFolder(run_of(run))
    folder.require_run()
    ticks = folder.ticks()[1:] or folder.ticks()  # the first line includes compilation and warm-up
    if not ticks:
        raise RunError(f"{run} has no log lines, so that its speed is not known")
    started = next((each for each in folder.records() if each.get("event") == "started"), {})
    spec, processes = read(folder.spec, GAN), int(started.get("processes", 1))
    steps_per_second = median(tick["images_per_second"] for tick in ticks) / int(spec.batch_size)
    return step_costs(spec, int(spec.batch_size) // processes).flops * float(steps_per_second)


def _memory(spec: Spec, gan: GAN, costs: StepCosts, shards: int, workspace: int) -> dict[str, int]:
    """Bytes by use in a process that holds a share of 1/`shards` of each parameter."""
    trained = [each for each in gan.parameters() if each.requires_grad]
    parameters = sum(each.nbytes for each in gan.parameters())
    moments = 2 * sum(each.nbytes for each in trained)
    averages = (1 + len(spec.ema.sigma_rel)) * sum(each.nbytes for each in gan.generator.parameters())
    parts = [parameters, moments, averages, costs.gradient_bytes]
    if shards > 1:
        gathered = 2 * max(sum(p.nbytes for p in unit.parameters()) for unit in _units(gan))  # one, and the next
        parts = [part // shards for part in parts]
        parts[0] += gathered
    parts[0] += sum(each.nbytes for each in gan.buffers()) + _frozen(spec, gan)
    names = ("parameters", "optimizer", "averages", "gradients")
    memory = dict(zip(names, parts, strict=True)) | {"activations": max(0, costs.peak_bytes - costs.gradient_bytes)}
    memory |= {"workspace": workspace} if workspace else {}
    return memory | {"total": sum(memory.values())}


def _shardable(spec: Spec) -> bool:
    try:
        check_document(spec)
    except RunError:
        return False
    return True


def _frozen(spec: Spec, gan: GAN) -> int:
    """Bytes of networks that are used and not trained, which no process shards."""
    networks = [each.network for each in gan.modules() if isinstance(each, FrozenModule)]
    if spec.trainable.condition and gan.generator.condition is not None:
        networks.append(gan.generator.condition)  # its untrained copy, for the discriminator
    tensors = {each for network in networks for each in (*network.parameters(), *network.buffers())}
    return sum(each.nbytes for each in tensors)


def _units(gan: GAN) -> list[nn.Module]:
    """The modules whose parameters are gathered together: the steps of both networks, and the mapping."""
    lists = (getattr(gan.generator, "synthesis", None), getattr(gan.discriminator, "steps", None))
    steps = [step for each in lists if isinstance(each, nn.ModuleList | nn.Sequential) for step in each]
    return [*steps, gan.generator.mapping] if steps else [gan.generator, gan.discriminator]


def _communication(gan: GAN, costs: StepCosts, processes: int, strategy: Strategy) -> int:
    rounds = 3 if strategy == "fsdp" else 2
    total = 0.0
    for name, steps in costs.optimizer_steps.items():
        trained = sum(each.nbytes for each in getattr(gan, name).parameters() if each.requires_grad)
        total += steps * rounds * trained * (processes - 1) / processes
    return round(total)

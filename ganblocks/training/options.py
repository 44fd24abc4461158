"""The options of a training that its document does not hold, declared nowhere else."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from ganblocks.options import NUM_SEEDS, Flag, Options, ResizeFilter
from ganblocks.precision import Precision

NonFinitePolicy = Literal["skip", "stop", "retry-in-float32"]
Strategy = Literal["replicate", "fsdp"]
TrackerName = Literal["tensorboard", "wandb", "trackio", "mlflow"]
DATA, LENGTH, OPTIMISATION, OUTPUT, HARDWARE = "Data", "Length", "Optimisation", "Output", "Hardware"
NOT_RECORDED = (
    "device",
    "workers",
    "non_finite",
    "strategy",
    "log_every_kimg",
    "save_every_seconds",
    "async_save",
    "track",
    "no_alarm",
    "quiet",
    "allow_external",
)


class TrainOptions(Options):
    """Options of `ganblocks train` and `ganblocks.train`."""

    flip: Annotated[bool | None, Field(description="Mirror half."), Flag(DATA, default="document")] = None
    resize_filter: Annotated[
        ResizeFilter | None,
        Field(description="lanczos, bicubic, bilinear or box."),
        Flag(DATA, metavar="FILTER"),
    ] = None
    workers: Annotated[int, Field(ge=0, description="Decoding processes."), Flag(DATA)] = 2
    kimg: Annotated[
        float | None, Field(gt=0, description="Length in thousands of images."), Flag(LENGTH, default="document")
    ] = None
    resume: Annotated[
        bool | Literal["auto"],
        Field(description="Continue the run; auto: if there is one."),
        Flag(LENGTH, names=("--resume",), metavar="[auto]", type=bool, default=""),
    ] = False
    batch_size: Annotated[
        int | None,
        Field(ge=1, description="Images per step."),
        Flag(OPTIMISATION, default="document"),
    ] = None
    micro_batch: Annotated[
        int | None,
        Field(ge=1, description="Images of a process per pass."),
        Flag(OPTIMISATION),
    ] = None
    seed: Annotated[
        int | None, Field(ge=0, lt=NUM_SEEDS, description="Random seed."), Flag(OPTIMISATION, default="0")
    ] = None
    init_generator: Annotated[
        Path | None,
        Field(description="Initial weights of G."),
        Flag(OPTIMISATION, metavar="MODEL"),
    ] = None
    init_discriminator: Annotated[
        Path | None,
        Field(description="Initial weights of D."),
        Flag(OPTIMISATION, metavar="MODEL"),
    ] = None
    non_finite: Annotated[
        NonFinitePolicy,
        Field(description="skip, stop, retry-in-float32."),
        Flag(OPTIMISATION, metavar="POLICY"),
    ] = "skip"
    log_every_kimg: Annotated[float, Field(gt=0, description="Log lines, samples."), Flag(OUTPUT)] = 4.0
    save_every_seconds: Annotated[float, Field(ge=0, description="Between checkpoints."), Flag(OUTPUT)] = 60.0
    async_save: Annotated[bool, Field(description="Write them in the background."), Flag(OUTPUT)] = False
    track: Annotated[
        tuple[TrackerName, ...],
        Field(description="tensorboard, wandb, trackio, mlflow."),
        Flag(OUTPUT, metavar="TRACKER", type=list[str]),
    ] = ()
    no_alarm: Annotated[bool, Field(description="No alarm at mode collapse."), Flag(OUTPUT)] = False
    quiet: Annotated[bool, Field(description="Print nothing."), Flag(OUTPUT)] = False
    device: Annotated[
        str | None,
        BeforeValidator(lambda value: value if value is None else str(value)),  # a torch.device too
        Field(description="Such as cpu or cuda:1."),
        Flag(HARDWARE, default="a GPU"),
    ] = None
    allow_external: Annotated[bool, Field(description="Download the spec's decoder."), Flag(HARDWARE)] = False
    strategy: Annotated[
        Strategy,
        Field(description="Or fsdp: shard."),
        Flag(HARDWARE, metavar="NAME"),
    ] = "replicate"
    precision: Annotated[
        Precision | None,
        Field(description="tf32 on CUDA, else fp32; or bf16, fp16."),
        Flag(HARDWARE, metavar="PRECISION"),
    ] = None
    compile: Annotated[bool, Field(description="torch.compile both networks."), Flag(HARDWARE)] = False
    cuda_graphs: Annotated[bool, Field(description="Capture steps in CUDA graphs."), Flag(HARDWARE)] = False
    deterministic: Annotated[bool, Field(description="Exact resume on a GPU; slower."), Flag(HARDWARE)] = False
    command: Annotated[str, Field(description="Command line, for the log and the files' metadata.")] = ""


def resume_command(options: TrainOptions, out: Path, processes: int) -> str:
    """The command that continues a run. The run records all options but `NOT_RECORDED`, which are repeated."""
    arguments = ["ganblocks", "train", "--resume", "--out", str(out)]
    for name in NOT_RECORDED:
        value, default = getattr(options, name), TrainOptions.model_fields[name].default
        if value != default:
            flag = f"--{name.replace('_', '-')}"
            for each in value if isinstance(value, tuple) else (value,):
                arguments += [flag] if each is True else [flag, f"{each}"]
    if processes == 1:
        return shlex.join(arguments)
    if int(os.environ.get("LOCAL_WORLD_SIZE", processes)) == processes:
        return shlex.join(["torchrun", "--nproc-per-node", str(processes), "-m", *arguments])
    return f"{shlex.join(arguments)}  # on {processes} processes, launched as before"

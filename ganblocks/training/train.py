"""Trains a GAN as its document says, into a run folder from which it can be resumed bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from assemblies import GAN, Trace, check, parse, plugins_of, read
from assemblies.generator import cond_dim_of, condition_input
from ganblocks.data.dataset import Images
from ganblocks.data.sources import open_data
from ganblocks.data.decode import ResizeFilter
from ganblocks.errors import RunError
from ganblocks.precision import Precision
from ganblocks.randomness import own_randomness, seed_step
from ganblocks.training.checkpoint import load_checkpoint, read_checkpoint_metadata
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.loop import RunIdentity, RuntimeOptions, TrainingLoop
from ganblocks.training.multi_stage import multi_stage_of, train_stages
from ganblocks.training.run_folder import Run, RunFolder
from ganblocks.training.trainer import Trainer
from ganblocks.training.warm_start import WarmStart
from registry import Spec, SpecError

DEFAULTS: dict[str, Any] = {"seed": 0, "flip": False, "resize_filter": "lanczos"}


def train(
    spec: Spec | Mapping[str, Any] | str | Path | None = None,
    data: str | Path | Images | None = None,
    out: str | Path = "run",
    *,
    resume: bool = False,
    init_generator: str | Path | None = None,
    init_discriminator: str | Path | None = None,
    kimg: float | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    flip: bool | None = None,
    resize_filter: ResizeFilter | None = None,
    precision: Precision = "no",
    device: str | torch.device | None = None,
    workers: int = 2,
    tick: float = 4.0,
    snapshot: float = 60.0,
    quiet: bool = False,
    command: str = "",
) -> Run:
    """Train a GAN and give back its averaged generator.

    Args:
        spec: A `GAN.Spec`, the same as plain data, a file, or a preset's name; or a recipe of several, of which the
            last one's run is given back. To resume it may be left away.
        data: A folder of images, a .zip, .tar shards, `digits`, or images opened by `open_data`. To resume it may be
            left away.
        out: The run folder.
        resume: Go on with the run in `out`, exactly as if it had never stopped.
        init_generator: What the generator begins with instead of random weights: another run, whose averaged generator
            it takes, or a model file.
        init_discriminator: What the discriminator begins with: another run, or a model file.
        kimg: Length of the training in thousands of images, instead of the spec's. A resumed run may be made longer;
            where the learning rate decays towards the end, the end then moves.
        batch_size: Images in a step, instead of the spec's.
        seed: What all randomness follows from; 0 by default.
        flip: Whether half of the images are mirrored; no by default.
        resize_filter: How images of other sizes are resized; lanczos by default.
        precision: Mixed precision: no, bf16 or fp16.
        device: Where to train; by default an accelerator if there is one.
        workers: Processes that decode images, where those do not fit into memory.
        tick: Thousands of images after which losses are logged and samples drawn.
        snapshot: Seconds that have to pass before a tick saves model, checkpoint and the picture of the losses again.
        quiet: Show nothing.
        command: What was typed, for the log and the files' metadata.

    Raises:
        SpecError: The spec is not valid, or does not fit together.
        RunError: The run folder cannot be used, or options contradict the run that is resumed.
        DataError: The data cannot be trained on.
        Diverged: Gradients stopped being finite.
        Interrupted: Ctrl-C; the state has been saved.
    """
    if (multi_stage := multi_stage_of(spec, out, resume=resume)) is not None:
        return train_stages(
            multi_stage,
            out,
            train,
            resume=resume,
            data=data,
            kimg=kimg,
            batch_size=batch_size,
            seed=seed,
            flip=flip,
            resize_filter=resize_filter,
            precision=precision,
            device=device,
            workers=workers,
            tick=tick,
            snapshot=snapshot,
            quiet=quiet,
            command=command,
            init_generator=init_generator,
            init_discriminator=init_discriminator,
        )
    folder = RunFolder(out)
    warm_start = WarmStart(*(None if each is None else Path(each) for each in (init_generator, init_discriminator)))
    if resume:
        folder.open_again()
    before = read_checkpoint_metadata(folder.checkpoint) if resume and folder.checkpoint.exists() else None
    if before and warm_start:
        raise RunError(f"the run in {folder.path} has begun; leave --init-generator and --init-discriminator away")
    wanted = _spec(spec, folder, before, resume=resume, changes={"kimg": kimg, "batch_size": batch_size})
    try:
        traces = check(wanted)
    except SpecError as error:
        raise error.about(str(spec) if isinstance(spec, str | Path) else "The spec") from None
    dist = DistributedContext(device, precision)
    if wanted.batch_size % dist.shard.world:
        raise RunError(
            f"the batch does not split evenly over {dist.shard.world} processes; choose another --batch-size"
        )
    if not resume and dist.is_main:
        folder.open_new()
    chosen = _chosen(before, {"seed": seed, "flip": flip, "resize_filter": resize_filter})
    identity, images = _identity(wanted, traces["generator"], data, before, chosen)
    with own_randomness():
        seed_step(identity.seed, -1)
        trainer = Trainer(wanted, dist)
        if before:
            load_checkpoint(folder.checkpoint, trainer)
        else:
            warm_start.apply(trainer)
        runtime = RuntimeOptions(tick, snapshot, workers, quiet, command)
        return TrainingLoop(folder, trainer, identity, images, runtime).run(resumed=resume)


def _spec(
    spec: Spec | Mapping[str, Any] | str | Path | None,
    folder: RunFolder,
    before: dict[str, Any] | None,
    *,
    resume: bool,
    changes: dict[str, Any],
) -> Spec:
    """The document to train, with the changes asked for; to resume, the same as before."""
    if spec is None and not resume:
        raise RunError("there is nothing to train: give a spec, or --resume to go on with a run")
    if spec is None:
        spec = before["spec"] if before else folder.spec
    assert spec is not None
    found = read(spec, GAN) if isinstance(spec, str | Path) else parse(spec, GAN)
    asked = {name: value for name, value in changes.items() if value is not None}
    wanted = parse(found.to_dict() | asked | {"plugins": plugins_of(found)}, GAN)
    if before and (differences := differing(parse(before["spec"], GAN).to_dict(), wanted.to_dict())):
        lines = "\n  ".join(differences)
        raise RunError(f"the run in {folder.path} has another spec; to resume it has to be the same\n  {lines}")
    return wanted


def differing(old: Any, new: Any, place: str = "") -> list[str]:
    """Where two documents differ, as lines `place: old -> new`; length of training and versions may differ."""
    if place in ("kimg", "plugins"):
        return []
    if isinstance(old, Mapping) and isinstance(new, Mapping) and old.get("kind") == new.get("kind"):
        names = dict.fromkeys([*old, *new])
        pairs = [(name, old.get(name, "(none)"), new.get(name, "(none)")) for name in names]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(str(index), a, b) for index, (a, b) in enumerate(zip(old, new, strict=True))]
    else:
        return [] if old == new else [f"{place}: {_short(old)} -> {_short(new)}"]
    return [line for name, a, b in pairs for line in differing(a, b, f"{place}.{name}".lstrip("."))]


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and "kind" in value:
        return str(value["kind"])
    return f"{len(value)} items" if isinstance(value, list) and len(value) > 4 else str(value)


def _chosen(before: dict[str, Any] | None, asked: dict[str, Any]) -> dict[str, Any]:
    """Options that a resumed run keeps; saying them again is fine, saying others is not."""
    for name, value in asked.items():
        if before and value is not None and value != before[name]:
            raise RunError(
                f"the run was begun with {name} {before[name]}, not {value}; leave that option away to resume it"
            )
    kept = {name: before[name] for name in DEFAULTS} if before else DEFAULTS
    return kept | {name: value for name, value in asked.items() if value is not None}


def _identity(
    spec: Spec, trace: Trace, data: str | Path | Images | None, before: dict[str, Any] | None, chosen: dict[str, Any]
) -> tuple[RunIdentity, Images]:
    """What is trained on; to resume, as many images as before."""
    if data is None:
        data = before["data"] if before else None
    if data is None:
        raise RunError("there is nothing to train on: give --data, a folder of images or `digits`")
    assert trace.image is not None
    channels, height, width = trace.image
    images = open_data(
        data,
        resolution=(height, width),
        image_channels=channels,
        cond_dim=cond_dim_of(spec.generator),
        captions=condition_input(spec.generator) == "captions",
        resize_filter=chosen["resize_filter"],
    )
    if before and len(images) != before["num_images"]:
        raise RunError(
            f"the run was begun on {before['num_images']} images, {images.name} has {len(images)}; "
            "to resume it has to be the same data"
        )
    return RunIdentity(data=images.name, num_images=len(images), **chosen), images

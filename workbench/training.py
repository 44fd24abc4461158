"""Trains a GAN as its document says, into a run folder from which it can be resumed bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from assemblies import GAN, Survey, check, parse, plugins_of, read
from assemblies.generator import cond_dim_of, takes
from registry import Spec, SpecError
from workbench.beginning import Beginning
from workbench.data import Images, open_data
from workbench.decode import ResizeFilter
from workbench.errors import RunError
from workbench.precision import Precision
from workbench.process import Process
from workbench.randomness import own_randomness, seed_step
from workbench.run import Run, RunFolder
from workbench.session import Course, Habits, Session
from workbench.staged import recipe_of, train_stages
from workbench.state import load_state, read_about
from workbench.steps import Training

DEFAULTS: dict[str, Any] = {"seed": 0, "flip": False, "resize_filter": "lanczos"}


def train(
    spec: Spec | Mapping[str, Any] | str | Path | None = None,
    data: str | Path | Images | None = None,
    out: str | Path = "run",
    *,
    resume: bool = False,
    generator_from: str | Path | None = None,
    discriminator_from: str | Path | None = None,
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
        generator_from: What the generator begins with instead of random weights: another run, whose averaged generator
            it takes, or a model file.
        discriminator_from: What the discriminator begins with: another run, or a model file.
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
    if (recipe := recipe_of(spec, out, resume=resume)) is not None:
        return train_stages(
            recipe,
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
            generator_from=generator_from,
            discriminator_from=discriminator_from,
        )
    folder = RunFolder(out)
    beginning = Beginning(*(None if each is None else Path(each) for each in (generator_from, discriminator_from)))
    if resume:
        folder.open_again()
    before = read_about(folder.checkpoint) if resume and folder.checkpoint.exists() else None
    if before and beginning:
        raise RunError(f"the run in {folder.path} has begun; leave --generator-from and --discriminator-from away")
    wanted = _spec(spec, folder, before, resume=resume, changes={"kimg": kimg, "batch_size": batch_size})
    try:
        surveys = check(wanted)
    except SpecError as error:
        raise error.about(str(spec) if isinstance(spec, str | Path) else "The spec") from None
    process = Process(device, precision)
    if wanted.batch_size % process.share.world:
        raise RunError(
            f"the batch does not split evenly over {process.share.world} processes; choose another --batch-size"
        )
    if not resume and process.is_main:
        folder.open_new()
    chosen = _chosen(before, {"seed": seed, "flip": flip, "resize_filter": resize_filter})
    course, images = _course(wanted, surveys["generator"], data, before, chosen)
    with own_randomness():
        seed_step(course.seed, -1)
        training = Training(wanted, process)
        if before:
            load_state(folder.checkpoint, training)
        else:
            beginning.apply(training)
        habits = Habits(tick, snapshot, workers, quiet, command)
        return Session(folder, training, course, images, habits).run(resumed=resume)


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


def _course(
    spec: Spec, survey: Survey, data: str | Path | Images | None, before: dict[str, Any] | None, chosen: dict[str, Any]
) -> tuple[Course, Images]:
    """What is trained on; to resume, as many images as before."""
    if data is None:
        data = before["data"] if before else None
    if data is None:
        raise RunError("there is nothing to train on: give --data, a folder of images or `digits`")
    assert survey.image is not None
    channels, height, width = survey.image
    images = open_data(
        data,
        resolution=(height, width),
        image_channels=channels,
        cond_dim=cond_dim_of(spec.generator),
        captions=takes(spec.generator) == "captions",
        resize_filter=chosen["resize_filter"],
    )
    if before and len(images) != before["num_images"]:
        raise RunError(
            f"the run was begun on {before['num_images']} images, {images.name} has {len(images)}; "
            "to resume it has to be the same data"
        )
    return Course(data=images.name, num_images=len(images), **chosen), images

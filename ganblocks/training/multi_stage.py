"""Trains a recipe: a run folder for each of its stages, in which it may be stopped and resumed like any other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assemblies import parse, read
from assemblies.gan import GAN
from assemblies.multi_stage import MultiStage
from ganblocks.errors import RunError
from ganblocks.training.checkpoint import read_checkpoint_metadata
from ganblocks.training.run_folder import Run, RunFolder
from ganblocks.training.warm_start import WarmStart
from registry import Spec, spec_file

DOCUMENT = "multi_stage.yaml"


def multi_stage_of(spec: Any, out: str | Path, *, resume: bool) -> Spec | None:
    """The recipe that is to be trained, if it is one and no single GAN."""
    path = Path(out) / DOCUMENT
    if spec is None:
        return read(path, MultiStage) if resume and path.is_file() else None
    if isinstance(spec, Mapping) and spec.get("kind") != MultiStage.kind:
        return None
    found = read(spec, GAN, MultiStage) if isinstance(spec, str | Path) else parse(spec, GAN, MultiStage)
    return found if issubclass(found.block, MultiStage) else None


def train_stages(document: Spec, out: str | Path, train: Any, *, resume: bool, **options: Any) -> Run:
    """Train the stages that are not done yet, each from where the one before ended.

    Args:
        recipe: A `Recipe.Spec`.
        out: The folder of their run folders.
        train: `ganblocks.train`.
        resume: Whether stages in `out` are gone on with.
        options: What `train` takes, for all stages.

    Raises:
        RunError: `out` holds another recipe, or a run without --resume.
    """
    folder = Path(out)
    path = folder / DOCUMENT
    warm_start = WarmStart(options.pop("init_generator", None), options.pop("init_discriminator", None))
    for name in ("kimg", "batch_size"):
        if options.pop(name, None) is not None:
            raise RunError(f"each stage of a recipe has its own {name}; change it in the document")
    if path.is_file() and not resume:
        raise RunError(f"{folder} holds a recipe's runs already; go on with them by --resume, or choose another --out")
    if path.is_file() and read(path, MultiStage) != document:
        raise RunError(f"{folder} was begun with another recipe; to resume it has to be the same")
    folder.mkdir(parents=True, exist_ok=True)
    spec_file.write(document, path)
    run: Run | None = None
    before: Path | None = None
    for number, stage in enumerate(document.stages, start=1):
        place = folder / f"{number}-{stage.name}"
        begun = RunFolder(place)
        done = (
            begun.checkpoint.is_file() and read_checkpoint_metadata(begun.checkpoint)["images"] >= stage.gan.kimg * 1000
        )
        if not done or number == len(document.stages):
            if before is not None:
                generator = before if stage.init_from_previous != "nothing" else None
                warm_start = WarmStart(generator, before if stage.init_from_previous == "both" else None)
            first = vars(warm_start) if not begun.checkpoint.is_file() else {}
            places = {f"init_{network}": path for network, path in first.items()}
            run = train(stage.gan, out=place, resume=begun.holds_run(), **places, **options)
        before = place
    assert run is not None
    return run

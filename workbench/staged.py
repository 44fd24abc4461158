"""Trains a recipe: a run folder for each of its stages, in which it may be stopped and resumed like any other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assemblies import parse, read
from assemblies.gan import GAN
from assemblies.stages import Recipe
from registry import Spec, documents
from workbench.beginning import Beginning
from workbench.errors import RunError
from workbench.run import Run, RunFolder
from workbench.state import read_about

DOCUMENT = "recipe.yaml"


def recipe_of(spec: Any, out: str | Path, *, resume: bool) -> Spec | None:
    """The recipe that is to be trained, if it is one and no single GAN."""
    document = Path(out) / DOCUMENT
    if spec is None:
        return read(document, Recipe) if resume and document.is_file() else None
    if isinstance(spec, Mapping) and spec.get("kind") != Recipe.kind:
        return None
    found = read(spec, GAN, Recipe) if isinstance(spec, str | Path) else parse(spec, GAN, Recipe)
    return found if issubclass(found.block, Recipe) else None


def train_stages(recipe: Spec, out: str | Path, train: Any, *, resume: bool, **options: Any) -> Run:
    """Train the stages that are not done yet, each from where the one before ended.

    Args:
        recipe: A `Recipe.Spec`.
        out: The folder of their run folders.
        train: `workbench.train`.
        resume: Whether stages in `out` are gone on with.
        options: What `train` takes, for all stages.

    Raises:
        RunError: `out` holds another recipe, or a run without --resume.
    """
    folder = Path(out)
    document = folder / DOCUMENT
    beginning = Beginning(options.pop("generator_from", None), options.pop("discriminator_from", None))
    for name in ("kimg", "batch_size"):
        if options.pop(name, None) is not None:
            raise RunError(f"each stage of a recipe has its own {name}; change it in the document")
    if document.is_file() and not resume:
        raise RunError(f"{folder} holds a recipe's runs already; go on with them by --resume, or choose another --out")
    if document.is_file() and read(document, Recipe) != recipe:
        raise RunError(f"{folder} was begun with another recipe; to resume it has to be the same")
    folder.mkdir(parents=True, exist_ok=True)
    documents.write(recipe, document)
    run: Run | None = None
    before: Path | None = None
    for number, stage in enumerate(recipe.stages, start=1):
        place = folder / f"{number}-{stage.name}"
        begun = RunFolder(place)
        done = begun.checkpoint.is_file() and read_about(begun.checkpoint)["images"] >= stage.gan.kimg * 1000
        if not done or number == len(recipe.stages):
            if before is not None:
                generator = before if stage.takes != "nothing" else None
                beginning = Beginning(generator, before if stage.takes == "both" else None)
            first = vars(beginning) if not begun.checkpoint.is_file() else {}
            places = {f"{network}_from": path for network, path in first.items()}
            run = train(stage.gan, out=place, resume=begun.holds_run(), **places, **options)
        before = place
    assert run is not None
    return run

"""Trains a GAN, or the stages of a multi-stage document, into a run folder from which it resumes bit for bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from assemblies import GAN, parse, read
from assemblies.multi_stage import MultiStage
from ganblocks.data.dataset import Images
from ganblocks.errors import RunError, UsageError
from ganblocks.malloc import tune_malloc
from ganblocks.networks import STAGES, document_of_run
from ganblocks.options import accepts
from ganblocks.training import multi_stage
from ganblocks.training.options import TrainOptions
from ganblocks.training.run.folder import Run, RunFolder
from ganblocks.training.single_stage import read_record, train_gan
from registry import Spec
from registry.external_files import external_files
from registry.limits import NOT_TEXT
from registry.text import excerpt


@accepts(TrainOptions)
def train(
    spec: Spec | Mapping[str, Any] | str | Path | None = None,
    data: str | Path | Images | None = None,
    out: str | Path = "run",
    *,
    options: TrainOptions,
) -> Run:
    """Train a GAN; the run that is returned has its averaged generator.

    From then on glibc keeps large freed blocks in this process (`ganblocks.malloc.tune_malloc`), unless the environment
    configures the allocator.

    Args:
        spec: A `GAN.Spec` or `MultiStage.Spec`, the same as plain data, a file, or a preset's name. To resume, it may
            be omitted. The run of the last stage is returned.
        data: A folder of images, a .zip, .tar shards, `digits`, or images from `open_data`. To resume, it may be
            omitted.
        out: The run folder.

    Raises:
        SpecError: The document is not valid, or its parts do not fit together.
        UsageError: An option is not valid.
        RunError: The run folder cannot be used, options contradict the run that is resumed, or the disk is full.
        DataError: The data cannot be used.
        DivergedError: Gradients are no longer finite.
        Interrupted: SIGINT, SIGTERM, SIGHUP or SIGUSR1 came; the state is saved.
    """
    tune_malloc()
    out = Path(out)
    for name, path in {"data": data, "out": out}.items():
        if isinstance(path, str | Path) and NOT_TEXT.search(str(path)):
            raise UsageError(f"--{name}: {excerpt(path)} has bytes that are not UTF-8 text; rename the folder or file")
    if options.resume == "auto":
        resume = RunFolder(out).holds_run() or multi_stage.holds_stages(out)
        options = TrainOptions.of(options, {"resume": resume})
    document = _document(spec, out, resume=bool(options.resume))
    subject = str(spec) if isinstance(spec, str | Path) else "The spec"
    with external_files(allowed=True) if options.allow_external else nullcontext():
        if issubclass(document.block, MultiStage):
            return multi_stage.train_stages(document, data, out, options, subject)
        return train_gan(document, data, RunFolder(out), options, resume_out=out, subject=subject)


def read_document(source: str | Path, settings: Sequence[str] = ()) -> Spec:
    """The document of a new training, from a file or the preset of that name.

    Args:
        source: A path, or the name of a preset.
        settings: Changes of the document, each `path=value`.

    Raises:
        RunError: The source is a run folder.
        SpecValidationError: As in `read`.
    """
    if (document := document_of_run(source)) is not None:
        cure = f"continue its run with --resume --out {source}, or start another one with the document {document}"
        raise RunError(f"{source} is a run folder, not a spec; {cure}")
    return read(source, GAN, MultiStage, settings=settings)


def _document(spec: Spec | Mapping[str, Any] | str | Path | None, out: Path, *, resume: bool) -> Spec:
    """The document to train: as passed, or that of the run to resume."""
    if isinstance(spec, str | Path):
        return read_document(spec)
    if spec is not None:
        return parse(spec, GAN, MultiStage)
    if not resume:
        raise RunError("there is nothing to train: give a spec, or --resume to continue a run")
    if (path := out / STAGES).is_file():
        return read(path, MultiStage)
    return parse(read_record(RunFolder(out)).spec, GAN)

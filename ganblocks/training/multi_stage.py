"""Trains the stages of a multi-stage document, each in a run folder of its own that can be resumed like any other."""

from __future__ import annotations

from pathlib import Path

from assemblies import check, read
from assemblies.multi_stage import INITIALISED, MultiStage
from ganblocks.data.dataset import Images
from ganblocks.errors import RunError
from ganblocks.networks import STAGES
from ganblocks.training.options import TrainOptions
from ganblocks.training.run.folder import Run, RunFolder
from ganblocks.training.run.identity import RunRecord, document_overrides, fixed_settings, num_target_images
from ganblocks.training.single_stage import read_record, train_gan
from registry import Spec, SpecError, spec_file


def train_stages(
    document: Spec, data: str | Path | Images | None, out: Path, options: TrainOptions, subject: str = "The spec"
) -> Run:
    """Train the stages that are not finished, each initialised from the one before as the document says.

    Args:
        document: A `MultiStage.Spec`.
        data: As in `train`.
        out: Folder of the stages' run folders.
        options: Options of every stage; initial weights are for the first.
        subject: What errors call the document.

    Returns:
        The run of the last stage.

    Raises:
        SpecError: The parts of a stage do not fit together. No stage is trained then.
        RunError: `out` holds runs of another document, or holds runs and `resume` is False.
    """
    path = out / STAGES
    folders = [RunFolder(out / f"{number}-{stage.name}") for number, stage in enumerate(document.stages, start=1)]
    for name in ("kimg", "batch_size"):
        if getattr(options, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise RunError(f"{flag}: each stage has its own {name}; change it in the document")
    if holds_stages(out):
        if not options.resume:
            raise RunError(f"{out} holds runs of stages already; continue them with --resume, or choose another --out")
        if read(path, MultiStage) != document:
            raise RunError(f"{out} was started with another multi-stage document; to resume it, it has to be the same")
    try:
        check(document)
    except SpecError as error:
        raise error.about(subject) from None
    out.mkdir(parents=True, exist_ok=True)
    spec_file.write(document, path)
    first = read_record(folders[0]) if folders[0].holds_run() else None
    if first is not None:
        data = first.data if data is None else data
    run: Run | None = None
    previous: Path | None = None
    for stage, folder in zip(document.stages, folders, strict=True):
        started, last = folder.holds_run(), folder is folders[-1]
        if last or not started or read_record(folder).images < num_target_images(stage.gan):
            changes: dict[str, object] = {"resume": started}
            if first is not None and not started:
                changes |= _options_of(first, options)
            if previous is not None:  # a started stage records what initialised it
                networks = () if started else INITIALISED[stage.init_from_previous]
                changes |= {f"init_{name}": previous if name in networks else None for name in INITIALISED["both"]}
            run = train_gan(stage.gan, data, folder, TrainOptions.of(options, changes), resume_out=out)
        previous = folder.path
    assert run is not None
    return run


def holds_stages(out: Path) -> bool:
    """Whether a training of stages began in this folder: the first one has a run."""
    return (out / STAGES).is_file() and any(RunFolder(folder).holds_run() for folder in out.glob("1-*"))


def _options_of(first: RunRecord, options: TrainOptions) -> dict[str, object]:
    """Options that a later stage has in common with the first one."""
    settings = fixed_settings(options, first)
    names = ("seed", "precision", "compile", "cuda_graphs", "deterministic")
    same = {name: settings[name] for name in names} | {"micro_batch": options.micro_batch or first.micro_batch}
    return same | document_overrides(options, first)

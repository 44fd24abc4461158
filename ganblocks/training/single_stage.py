"""Trains one GAN: checks the document, options and data against the run to resume, then runs the training loop."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from assemblies import GAN, Trace, check, parse, plugins_of
from assemblies.condition import cond_dim_of, condition_input
from assemblies.model_file import CheckpointError, read_metadata
from blocks.weight_norm.converge import converge_weight_norms
from ganblocks import openmp
from ganblocks.data.dataset import Images
from ganblocks.data.encoded.pictures import check_latents
from ganblocks.data.sources import can_be_opened, open_data
from ganblocks.errors import RunError
from ganblocks.randomness import deterministic_algorithms, fork_rng, seed_step
from ganblocks.training.checkpoint import load_checkpoint, read_checkpoint_record
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.logs.progress_log import Screen
from ganblocks.training.loop import TrainingLoop
from ganblocks.training.options import TrainOptions
from ganblocks.training.run.folder import Run, RunFolder
from ganblocks.training.run.identity import (
    RunIdentity,
    RunRecord,
    describe_run,
    document_differences,
    document_overrides,
    environment_changes,
    fixed_settings,
    num_target_images,
    require_same_data,
)
from ganblocks.training.run.snapshots import save_run_model
from ganblocks.training.trainer import Trainer
from ganblocks.training.warm_start import warm_start
from registry import Spec, SpecError
from registry.text import printable


def train_gan(
    document: Spec,
    data: str | Path | Images | None,
    folder: RunFolder,
    options: TrainOptions,
    *,
    resume_out: Path,
    subject: str = "The spec",
) -> Run:
    """Train one GAN.

    Args:
        document: A `GAN.Spec`, before options replace values of it.
        data: As in `train`.
        folder: The run folder.
        options: The options.
        resume_out: The `--out` that continues the training.
        subject: What errors call the document.
    """
    record = read_record(folder) if options.resume else None
    if record is None:
        folder.require_no_run()
    replaced = document_overrides(options, record)
    document = _resolved(document, replaced, record, folder)
    chosen = fixed_settings(options, record)
    try:
        traces = check(document)
    except SpecError as error:
        raise error.about(subject) from None
    with ExitStack() as stack:
        if chosen["deterministic"]:
            stack.enter_context(deterministic_algorithms())
        distributed = DistributedContext(options.device, chosen["precision"])
        chosen["precision"] = distributed.precision
        if document.batch_size % distributed.shard.world:
            raise RunError(
                f"--batch-size: {document.batch_size} images do not split evenly over "
                f"{distributed.shard.world} processes"
            )
        if options.strategy == "fsdp":
            from ganblocks.training.step.sharding import check_shardable  # here, because it takes seconds to import

            check_shardable(document, distributed, chosen, options.non_finite)
        if distributed.is_main:
            stack.enter_context(folder.locked())
        stack.enter_context(fork_rng())
        if record is not None and record.images >= num_target_images(document):
            return _finished(document, folder, record, distributed, options)
        progress = not options.quiet and distributed.is_main
        images = _open(data, document, traces["generator"], record, progress=progress)
        identity = RunIdentity(
            **chosen,
            data=images.name,
            num_images=len(images),
            fingerprint=images.fingerprint,
            data_license=images.license,
            class_names=images.class_names if condition_input(document.generator) == "classes" else (),
            processes=distributed.shard.world,
            micro_batch=options.micro_batch or (record.micro_batch if record else None),
            device=distributed.device.type,
            overrides=replaced,
        )
        seed_step(identity.seed, -1)
        # a run that began with CUDA graphs can continue without a CUDA device, unless the option is repeated
        graphs = identity.cuda_graphs and (options.cuda_graphs or distributed.device.type == "cuda")
        trainer = Trainer(
            document,
            distributed,
            compile=identity.compile,
            cuda_graphs=graphs,
            micro_batch=identity.micro_batch,
            sharded=options.strategy == "fsdp",
            non_finite=options.non_finite,
        )
        if folder.checkpoint.exists():
            load_checkpoint(folder.checkpoint, trainer)
        else:
            warm_start(trainer, generator=chosen["init_generator"], discriminator=chosen["init_discriminator"])
        warnings = [] if record is None else environment_changes(record, identity)
        warnings += [openmp.message] if openmp.message and distributed.device.type == "cpu" else []
        loop = TrainingLoop(folder, trainer, identity, images, options, resume_out=resume_out, warnings=warnings)
        return loop.run()


def read_record(folder: RunFolder) -> RunRecord:
    """The record of the run in a folder: of its checkpoint, or before the first one of run.json.

    Raises:
        RunError: There is no run, or run.json is damaged.
        CheckpointError: The checkpoint is damaged.
    """
    folder.require_run()
    if folder.checkpoint.exists():
        return read_checkpoint_record(folder.checkpoint)
    if folder.record.exists():
        return RunRecord.parse(folder.record.read_text(encoding="utf-8", errors="replace"), folder.record)
    raise RunError(
        f"{folder.path} has neither {folder.checkpoint.name} nor {folder.record.name}, so the run cannot be resumed; "
        "omit --resume and choose another --out to start a run"
    )


def _resolved(document: Spec, replaced: dict[str, Any], record: RunRecord | None, folder: RunFolder) -> Spec:
    """The document with values replaced by options; that of a resumed run has to be the same as before."""
    resolved = parse(document.to_dict() | replaced | {"plugins": plugins_of(document)}, GAN)
    if record is None:
        return resolved
    recorded = parse(record.spec, GAN)
    if differences := document_differences(recorded.to_dict(), resolved.to_dict()):
        lines = "\n  ".join(differences)
        raise RunError(f"the run in {folder.path} has another document; to resume it, it has to be the same\n  {lines}")
    return resolved


def _open(
    data: str | Path | Images | None, document: Spec, trace: Trace, record: RunRecord | None, *, progress: bool
) -> Images:
    """The data set; of a resumed run the same as before."""
    if data is None and record is not None:
        if not can_be_opened(record.data):
            raise RunError(f"the run was started on {record.data!r}, which is not here; give its --data to resume it")
        data = record.data
    if data is None:
        raise RunError("there are no data to train on: give --data, a folder of images or `digits`")
    assert trace.image is not None
    channels, height, width = trace.image
    images = open_data(
        data,
        resolution=(height, width),
        image_channels=channels,
        cond_dim=cond_dim_of(document.generator),
        captions=condition_input(document.generator) == "captions",
        resize_filter=document.resize_filter,
        progress=progress,
    )
    needs_images = any(each.block.needs_pixels for each in document.regularizers)
    check_latents(images, document.generator, needs_images=needs_images)
    if record is not None:
        require_same_data(record, images)
    return images


def _finished(
    document: Spec, folder: RunFolder, record: RunRecord, distributed: DistributedContext, options: TrainOptions
) -> Run:
    """A run that is as long as it should be already. Nothing is written, unless a kill left an older model behind."""
    done, target = record.images / 1000, num_target_images(document) / 1000
    screen = Screen(quiet=options.quiet or not distributed.is_main)
    message = f"nothing left to do: {folder.path} has {done:g} kimg, and its length is {target:g}; see --kimg"
    screen.attempt(lambda: screen.print(printable(message), markup=False))
    trainer = Trainer(document, distributed)
    load_checkpoint(folder.checkpoint, trainer)
    if distributed.is_main and _images_of(folder.model) != record.images:
        identity = RunIdentity.model_validate(record.model_dump(include=set(RunIdentity.model_fields)))
        save_run_model(folder.model, trainer, describe_run(identity, parse(record.spec, GAN), options.command))
    converge_weight_norms(trainer.generator_ema)
    return Run(folder.path, trainer.generator_ema, folder.ticks())


def _images_of(model: Path) -> int | None:
    """Images in the steps before a model file was written; None if there is no such file."""
    try:
        images: int | None = read_metadata(model).get("extra", {}).get("images")
    except CheckpointError:
        return None
    return images

"""A generator from a run folder or a model file."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from assemblies import CheckpointError, Generator, load_model
from ganblocks.malloc import trim_malloc
from ganblocks.networks import STAGES
from ganblocks.precision import refuse_fp16_on_cpu
from ganblocks.sampling.options import SamplingOptions
from ganblocks.transfer import usable_device
from registry.text import printable

MODEL = "model.safetensors"


def run_of(source: str | Path) -> Path:
    """A run folder or model file as it is; of a multi-stage training, the run of its last stage that has a model.

    A line on standard error says which stage it is. Without a model in any stage, the folder itself is returned.
    """
    path = Path(source)
    if not (path / STAGES).is_file():
        return path
    numbers = {file.parent: file.parent.name.partition("-")[0] for file in path.glob(f"*-*/{MODEL}")}
    stages = {int(number): stage for stage, number in numbers.items() if number.isdecimal()}
    if not stages:
        return path
    stage = stages[max(stages)]
    text = f"{path} holds the runs of several stages; taking the last one with a model: {stage}"
    print(printable(text), file=sys.stderr)
    return stage


def load(source: str | Path, device: str | torch.device = "cpu", *, allow_external: bool = False) -> Generator:
    """The averaged generator of a run folder, or the generator of a model file, in eval mode.

    Args:
        source: A run folder, that of a multi-stage training (see `run_of`), or a `.safetensors` model file.
        device: Where to put it.
        allow_external: Whether to open other files and to download weights that the model file names.

    Raises:
        CheckpointError: There is no model, or the file is damaged or does not fit its own spec.
        SpecError: The model file names blocks that are not installed, or files that are not allowed.
    """
    path = run_of(source)
    if path.is_dir():
        if not (path / MODEL).is_file():
            raise CheckpointError(
                f"{path} has no {MODEL}: it is not a run folder, or training has not saved a model yet"
            )
        path = path / MODEL
    return load_model(path, device, allow_external=allow_external)


def load_on_device(source: str | Path, options: SamplingOptions) -> Generator:
    """The generator of `load`, on the device of the options, which must support their precision.

    Raises:
        CheckpointError: As in `load`.
        RunError: The device cannot be used, or the precision needs a GPU.
        SpecError: As in `load`.
    """
    device = inference_device(options.device)
    refuse_fp16_on_cpu(options.precision, on_cpu=device.type == "cpu")
    generator = load(source, device, allow_external=options.allow_external)
    trim_malloc()  # of what building and reading left
    return generator


def load_optimized(source: str | Path, options: SamplingOptions) -> Generator:
    """The generator of `load_on_device`, optimised for inference in the precision of the options."""
    return load_on_device(source, options).optimize_for_inference(precision=options.precision)


def inference_device(name: str | None) -> torch.device:
    """The named device; for None the accelerator of this machine, or its CPU if there is none.

    Raises:
        RunError: The device cannot be used.
    """
    if name is not None:
        return usable_device(name)
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")

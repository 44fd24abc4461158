"""Initial weights from another run or from model files, in place of random ones.

Transfer learning, and Freeze-D in particular: Mo et al. 2020, https://arxiv.org/abs/2002.10964. A network may have
more steps than the one that initialises it, see `assemblies.multi_stage`.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from assemblies.model_file import read_tensors
from assemblies.multi_stage import grown, init_from
from ganblocks.errors import RunError
from ganblocks.sampling.load import run_of
from ganblocks.training.checkpoint import read_network
from ganblocks.training.run.folder import RunFolder
from ganblocks.training.trainer import Trainer


def warm_start(
    trainer: Trainer, *, generator: str | Path | None = None, discriminator: str | Path | None = None
) -> None:
    """Initialise the networks of a training, the averaged generator too.

    Args:
        trainer: The training.
        generator: A run folder with an averaged generator, or a generator's model file; None for random weights.
        discriminator: A run folder, or a discriminator's model file; None for random weights.

    Raises:
        RunError: A source has no such network.
        CheckpointError: A file is not a model file.
        IncompatibleError: A tensor has no counterpart in the network.
    """
    if generator is not None:
        init_from(generator_tensors(run_of(generator)), trainer.generator, f"--init-generator {generator}")
        trainer.generator_ema.load_state_dict(trainer.generator.state_dict())
    if discriminator is not None:
        network = trainer.discriminator
        constant = {name for name, _ in network.named_buffers()} - network.state_dict().keys()  # such as filters
        tensors = grown(discriminator_tensors(run_of(discriminator)), network)
        tensors = {name: value for name, value in tensors.items() if name not in constant}
        init_from(tensors, network, f"--init-discriminator {discriminator}")


def generator_tensors(source: Path) -> dict[str, Tensor]:
    """Tensors of the averaged generator of a run, or of a generator's model file."""
    file = RunFolder(source).model if source.is_dir() else source
    if not file.is_file():
        raise RunError(f"{source} has no generator; give a run folder or a model's .safetensors file")
    tensors, metadata = read_tensors(file)
    if "context" in metadata:
        raise RunError(f"{source} holds a discriminator; give a generator's file or a run folder")
    return tensors


def discriminator_tensors(source: Path) -> dict[str, Tensor]:
    """Tensors of the discriminator of a run, with all its buffers, or of a discriminator's model file."""
    if source.is_dir():
        checkpoint, prefix = RunFolder(source).checkpoint, "gan.discriminator."
        if not checkpoint.is_file():
            raise RunError(f"{source} has no checkpoint; give a run folder or a model's .safetensors file")
        return read_network(checkpoint, prefix)
    if not source.is_file():
        raise RunError(f"{source} has no discriminator; give a run folder or a model's .safetensors file")
    tensors, metadata = read_tensors(source)
    if "context" not in metadata:
        raise RunError(f"{source} holds a generator; give a discriminator's file or a run folder")
    return tensors

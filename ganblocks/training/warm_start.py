"""What a training begins with in the place of random weights: networks of another run, or of model files.

Transfer learning, and Freeze-D in particular: Mo et al. 2020, https://arxiv.org/abs/2002.10964; grown generators: see
`assemblies.multi_stage`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from assemblies.model_file import read_tensors
from assemblies.multi_stage import init_from
from ganblocks.errors import RunError
from ganblocks.training.run_folder import RunFolder
from ganblocks.training.trainer import Trainer


@dataclass(frozen=True)
class WarmStart:
    """Where the networks come from that a training begins with.

    Args:
        generator: A run folder, whose averaged generator it is, or a generator's model file; None for random weights.
        discriminator: A run folder, or a discriminator's model file; None for random weights.
    """

    generator: Path | None = None
    discriminator: Path | None = None

    def __bool__(self) -> bool:
        return self.generator is not None or self.discriminator is not None

    def apply(self, trainer: Trainer) -> None:
        """Let a training begin so; the average of the generator begins there too.

        Raises:
            RunError: There is no such network.
            CheckpointError: A file is no model of ganblocks.
            IncompatibleError: Its tensors do not go into the network that is to be trained.
        """
        if self.generator is not None:
            tensors = tensors_of_generator(self.generator)
            init_from(tensors, trainer.generator, f"{self.generator}, whose generator goes before,")
            trainer.generator_ema.load_state_dict(trainer.generator.state_dict())
        if self.discriminator is not None:
            network = trainer.discriminator
            constant = {name for name, _ in network.named_buffers()} - network.state_dict().keys()  # such as filters
            found = tensors_of_discriminator(self.discriminator)
            tensors = {name: value for name, value in found.items() if name not in constant}
            init_from(tensors, network, f"{self.discriminator}, whose discriminator goes before,")


def tensors_of_generator(source: Path) -> dict[str, Tensor]:
    """The averaged generator of a run, or a model file's."""
    file = RunFolder(source).model if source.is_dir() else source
    if not file.is_file():
        raise RunError(f"{source} has no generator to begin with; give a run folder or a model's .safetensors file")
    tensors, about = read_tensors(file)
    if "context" in about:
        raise RunError(f"{source} holds a discriminator; a generator's file or a run folder goes here")
    return tensors


def tensors_of_discriminator(source: Path) -> dict[str, Tensor]:
    """The discriminator of a run, with all its buffers, or a model file's."""
    if source.is_dir():
        checkpoint, prefix = RunFolder(source).checkpoint, "gan.discriminator."
        if not checkpoint.is_file():
            raise RunError(f"{source} has no finished training to begin with; give a run folder or a model file")
        with safe_open(checkpoint, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    if not source.is_file():
        raise RunError(f"{source} has no discriminator to begin with; give a run folder or a model's .safetensors file")
    tensors, about = read_tensors(source)
    if "context" not in about:
        raise RunError(f"{source} holds a generator; a discriminator's file or a run folder goes here")
    return tensors

"""A training's state as one .safetensors file: nothing is pickled, and training goes on from it bit for bit.

It holds the weights and buffers of all networks, terms and the average, and Adam's moments; in its metadata, as JSON,
how far the training got and what it was. Randomness and the order of the data follow from seed and step, see
`randomness` and `stream`, so they need no saving.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from assemblies import CheckpointError, plugins_of
from ganblocks.training.trainer import Trainer
from registry.spec_file import write_whole

FORMAT = "ganblocks-training-1"
PACKAGES = ("ganblocks", "torch", "numpy", "safetensors", "accelerate")


def save_checkpoint(path: Path, trainer: Trainer, about: Mapping[str, Any]) -> None:
    """Write a training's state, whole or not at all.

    Args:
        path: Where to.
        training: What to save.
        about: JSON data for the metadata: seed, data, command, ...
    """
    scaler = trainer.dist.scaler
    told = {
        **about,
        "step": trainer.step,
        "images": trainer.images,
        "spec": trainer.spec.to_dict(),
        "plugins": plugins_of(trainer.spec),
        "versions": versions(),
        "scaler": None if scaler is None else scaler.state_dict(),
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors_of(trainer).items()}
    write_whole(path, save(tensors, metadata={"format": FORMAT, "ganblocks": json.dumps(told)}))


def read_checkpoint_metadata(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself, without its tensors."""
    return _open(path, tensors=False)[1]


def load_checkpoint(path: Path, trainer: Trainer) -> None:
    """Put a saved state into a training of the same spec.

    Raises:
        CheckpointError: The file is foreign, cut short, or does not fit the networks.
    """
    tensors, about = _open(path, tensors=True)
    wanted = {f"{part}.{name}": value for part, module in _modules(trainer) for name, value in _values(module).items()}
    problems = [f"missing: {name}" for name in wanted if name not in tensors]
    problems += [f"unexpected: {name}" for name in tensors if name not in wanted and not name.startswith("optimizer.")]
    problems += [
        f"shape of {name}: {tuple(tensors[name].shape)} in the file, {tuple(value.shape)} in the networks"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if problems:
        raise CheckpointError(f"{path} does not fit the networks of its spec\n  " + "\n  ".join(problems[:20]))
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(tensors[name])
    for name, side in trainer.optimizers.items():
        prefix = f"optimizer.{name}."
        side.set_moments({key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)})
    if trainer.dist.scaler is not None and about.get("scaler"):
        trainer.dist.scaler.load_state_dict(about["scaler"])
    trainer.step = about["step"]


def tensors_of(trainer: Trainer) -> dict[str, Tensor]:
    """All tensors that a training changes."""
    found = {f"{part}.{name}": value for part, module in _modules(trainer) for name, value in _values(module).items()}
    for name, side in trainer.optimizers.items():
        found |= {f"optimizer.{name}.{key}": value for key, value in side.moments().items()}
    return found


def versions() -> dict[str, str]:
    """Versions of what a training's numbers depend on."""
    return {"python": sys.version.split()[0], **{name: metadata.version(name) for name in PACKAGES}}


def _modules(trainer: Trainer) -> tuple[tuple[str, nn.Module], ...]:
    return ("gan", trainer.gan), ("average", trainer.generator_ema)


def _values(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and all buffers, those too that a model file leaves out."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _open(path: Path, *, tensors: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            if about.get("format") != FORMAT:
                raise CheckpointError(
                    f"{path} is a .safetensors file, but not the state of a training; "
                    f"it says format {about.get('format', 'nothing')!r} where {FORMAT!r} should stand"
                )
            found = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}
    except SafetensorError as error:
        size = path.stat().st_size
        raise CheckpointError(
            f"{path} cannot be read ({error}); it has {size} bytes: cut short, or another format?"
        ) from None
    return found, json.loads(about["ganblocks"])

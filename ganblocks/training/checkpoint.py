"""The state of a training as one .safetensors file, from which it continues bit for bit. Nothing is pickled.

It holds the weights and buffers of networks, regularizers, augmentations and the averaged generator, and Adam's
moments; the metadata holds the run's record and how far it is. Random numbers and the order of the data are functions
of seed and step, see `randomness` and `data.loader`, and are not saved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from assemblies import CheckpointError
from ganblocks.errors import RunError
from ganblocks.training.run.identity import RunRecord
from ganblocks.training.trainer import Trainer
from registry.spec_file import write_atomically

FORMAT = "ganblocks-training-1"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def save_checkpoint(path: Path, trainer: Trainer, run: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Write the state of a training, whole or not at all.

    Args:
        path: The file.
        trainer: The training.
        run: The record of the run, from `describe_run`, for the metadata.
        state: What `checkpoint_tensors` returned.
    """
    scaler = trainer.distributed.scaler
    metadata = {
        **run,
        "step": trainer.step,
        "images": trainer.images,
        "scaler": None if scaler is None else scaler.state_dict(),
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    write_atomically(path, save(tensors, metadata={"format": FORMAT, "ganblocks": json.dumps(metadata)}))


def read_checkpoint_record(path: Path) -> RunRecord:
    """The record of the run in a checkpoint, without its tensors.

    Raises:
        CheckpointError: The file is not a checkpoint, or is damaged.
    """
    text = _open(path, tensors=False)[1]
    try:
        return RunRecord.parse(text, path)
    except RunError as error:
        raise CheckpointError(str(error)) from None


def load_checkpoint(path: Path, trainer: Trainer) -> None:
    """Restore a state that was saved by a training of the same document, sharded or not.

    Raises:
        CheckpointError: The file is not a checkpoint, is damaged, or does not match the networks.
    """
    with trainer.gathered():
        _load(path, trainer)


def _load(path: Path, trainer: Trainer) -> None:
    tensors, text = _open(path, tensors=True)
    expected = {**_state(trainer), **_moments_like(trainer, tensors)}
    problems = [f"missing: {name}" for name in expected if name not in tensors]
    problems += [f"unexpected: {name}" for name in tensors if name not in expected]
    for name, value in expected.items():
        if name in tensors and (form := _form(tensors[name])) != _form(value):
            problems.append(f"{name}: {form} in the file, {_form(value)} in the networks")
    if problems:
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise CheckpointError(f"{path} does not match its document\n  " + "\n  ".join(problems[:20]) + more)
    with torch.no_grad():
        for name, value in _state(trainer).items():
            value.copy_(tensors[name] if trainer.sharding is None else trainer.sharding.like(value, tensors[name]))
    for network, optimizer in trainer.optimizers.items():
        prefix = f"optimizer.{network}."
        moments = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if trainer.sharding is not None:
            moments = trainer.sharding.moments(optimizer.parameters, moments)
            trainer.sharding.restore()
        optimizer.set_moments(moments)
    scaler_state = json.loads(text).get("scaler")
    if trainer.distributed.scaler is not None and scaler_state:
        trainer.distributed.scaler.load_state_dict(scaler_state)
    trainer.step = RunRecord.parse(text, path).step


def checkpoint_tensors(trainer: Trainer) -> dict[str, Tensor]:
    """All tensors that training changes, by name; sharded ones are gathered in the first process, and all call it."""
    tensors = _state(trainer)
    for network, optimizer in trainer.optimizers.items():
        tensors |= {f"optimizer.{network}.{key}": value for key, value in optimizer.moments().items()}
    return tensors if trainer.sharding is None else trainer.sharding.gather(tensors)


def _state(trainer: Trainer) -> dict[str, Tensor]:
    """Parameters and all buffers, also those that model files omit."""
    parts: list[tuple[str, nn.Module]] = [("gan", trainer.gan), ("average", trainer.generator_ema)]
    parts += [(f"average-{sigma_rel:g}", average) for sigma_rel, average in trainer.power_averages.items()]
    return {
        f"{part}.{name}": value
        for part, module in parts
        for name, value in (*module.named_parameters(), *module.named_buffers())
    }


def _moments_like(trainer: Trainer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Templates of Adam's moments, for the parameters that have some in the file: others never had a gradient."""
    templates: dict[str, Tensor] = {}
    for network, optimizer in trainer.optimizers.items():
        for name, parameter in optimizer.parameters.items():
            names = [f"optimizer.{network}.{name}.{moment}" for moment in MOMENTS]
            if any(each in tensors for each in names):
                templates |= dict(zip(names, (torch.zeros(()), parameter, parameter), strict=True))
    return templates


def _form(tensor: Tensor) -> tuple[list[int], str]:
    return list(tensor.shape), str(tensor.dtype).removeprefix("torch.")


def _open(path: Path, *, tensors: bool) -> tuple[dict[str, Tensor], str]:
    """Tensors and metadata, the latter as JSON."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(
                    f"{path} is a .safetensors file, but not the checkpoint of a training: "
                    f"its format is {metadata.get('format', 'not given')!r}, not {FORMAT!r}"
                )
            loaded = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}
    except SafetensorError as error:
        size = path.stat().st_size
        raise CheckpointError(
            f"{path} cannot be read ({error}); it has {size} bytes: cut short, or another format?"
        ) from None
    return loaded, metadata.get("ganblocks", "")

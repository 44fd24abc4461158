"""The state of a training as one .safetensors file, from which it continues bit for bit. Nothing is pickled.

It holds the weights and buffers of networks, regularizers, augmentations and the averaged generator, and Adam's
moments; the metadata holds the run's record and how far it is. Tensors of a sharded training are in shards beside the
file, see `run.shards`, and the metadata lists these. Random numbers and the order of the data are functions of seed and
step, see `randomness` and `data.loader`, and are not saved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from assemblies import CheckpointError
from ganblocks.errors import RunError
from ganblocks.training.optimizer import NetworkOptimizer
from ganblocks.training.run.identity import RunRecord
from ganblocks.training.run.shards import ShardReader
from ganblocks.training.trainer import Trainer
from registry.spec_file import write_tensors

FORMAT = "ganblocks-training-1"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
Form = tuple[list[int], str]  # shape and dtype


def checkpoint_record(trainer: Trainer, run: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a checkpoint: the record of the run, from `describe_run`, and how far it is."""
    scaler = trainer.distributed.scaler
    state = {"step": trainer.step, "images": trainer.images, "scaler": None if scaler is None else scaler.state_dict()}
    return {**run, **state}


def save_checkpoint(path: Path, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write the state of a training, whole or not at all.

    Args:
        path: The file.
        record: What `checkpoint_record` returned, with `shards` if the tensors are in shards.
        tensors: What `checkpoint_tensors` returned, or none if they are in shards.
    """
    write_tensors(path, tensors, {"format": FORMAT, "ganblocks": json.dumps(record)})


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
    tensors, text = _open(path, tensors=True)
    record = read_checkpoint_record(path)
    reader = None if record.shards is None else ShardReader(path, record.shards)
    forms = {name: _form(value) for name, value in tensors.items()} if reader is None else reader.forms()
    moments = {name: _moments_like(optimizer, name, forms) for name, optimizer in trainer.optimizers.items()}
    targets = _state(trainer) | _with_prefixes(moments)
    _compare(path, forms, targets)
    if reader is not None:
        reader.load(targets)
    else:
        with torch.no_grad():
            for name, value in targets.items():
                value.copy_(tensors[name] if trainer.sharding is None else trainer.sharding.like(value, tensors[name]))
    for name, optimizer in trainer.optimizers.items():
        optimizer.set_moments(moments[name])
    if trainer.sharding is not None:
        trainer.sharding.fill()
    scaler_state = json.loads(text).get("scaler")
    if trainer.distributed.scaler is not None and scaler_state:
        trainer.distributed.scaler.load_state_dict(scaler_state)
    trainer.step = record.step


def read_network(path: Path, prefix: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint whose names have a prefix, by the rest of their names.

    Raises:
        CheckpointError: The file is not a checkpoint, or is damaged.
    """
    tensors, _ = _open(path, tensors=True, prefix=prefix)
    if (shards := read_checkpoint_record(path).shards) is not None:
        reader = ShardReader(path, shards)
        forms = {name: form for name, form in reader.forms().items() if name.startswith(prefix)}
        tensors = {name: torch.empty(size, dtype=getattr(torch, dtype)) for name, (size, dtype) in forms.items()}
        reader.load(tensors)
    return {name.removeprefix(prefix): value for name, value in tensors.items()}


def checkpoint_tensors(trainer: Trainer) -> dict[str, Tensor]:
    """All tensors that training changes, by name; of sharded ones, the parts of this process."""
    return _state(trainer) | _with_prefixes({name: each.moments() for name, each in trainer.optimizers.items()})


def _state(trainer: Trainer) -> dict[str, Tensor]:
    """Parameters and all buffers, also those that model files omit."""
    parts: list[tuple[str, nn.Module]] = [("gan", trainer.gan), ("average", trainer.generator_ema)]
    parts += [(f"average-{sigma_rel:g}", average) for sigma_rel, average in trainer.power_averages.items()]
    state: dict[str, Tensor] = {
        f"{part}.{name}": value
        for part, module in parts
        for name, value in (*module.named_parameters(), *module.named_buffers())
    }
    if trainer.sharding is not None:
        names = [f"average.{name}" for name, _ in trainer.generator_ema.named_parameters()]
        state |= dict(zip(names, trainer.sharding.shards, strict=True))
    return state


def _with_prefixes(moments: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"optimizer.{network}.{key}": value for network, each in moments.items() for key, value in each.items()}


def _moments_like(optimizer: NetworkOptimizer, network: str, forms: Mapping[str, Form]) -> dict[str, Tensor]:
    """Memory for Adam's moments of the parameters that have some in the file: others never had a gradient."""
    moments: dict[str, Tensor] = {}
    for name, parameter in optimizer.parameters.items():
        names = [f"{name}.{moment}" for moment in MOMENTS]
        if any(f"optimizer.{network}.{each}" in forms for each in names):
            values = (torch.zeros(()), *(torch.zeros_like(parameter.detach()) for _ in range(2)))
            moments |= dict(zip(names, values, strict=True))
    return moments


def _compare(path: Path, forms: Mapping[str, Form], targets: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not those of the training."""
    problems = [f"missing: {name}" for name in targets if name not in forms]
    problems += [f"unexpected: {name}" for name in forms if name not in targets]
    for name, value in targets.items():
        if name in forms and forms[name] != _form(value):
            problems.append(f"{name}: {forms[name]} in the file, {_form(value)} in the networks")
    if problems:
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise CheckpointError(f"{path} does not match its document\n  " + "\n  ".join(problems[:20]) + more)


def _form(tensor: Tensor) -> Form:
    return list(tensor.shape), str(tensor.dtype).removeprefix("torch.")


def _open(path: Path, *, tensors: bool, prefix: str = "") -> tuple[dict[str, Tensor], str]:
    """Tensors whose names have a prefix, and metadata, the latter as JSON."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(
                    f"{path} is a .safetensors file, but not the checkpoint of a training: "
                    f"its format is {metadata.get('format', 'not given')!r}, not {FORMAT!r}"
                )
            names = [name for name in file.keys() if tensors and name.startswith(prefix)]
            loaded = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        size = path.stat().st_size
        raise CheckpointError(
            f"{path} cannot be read ({error}); it has {size} bytes: cut short, or another format?"
        ) from None
    return loaded, metadata.get("ganblocks", "")

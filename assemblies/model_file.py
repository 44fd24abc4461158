"""A model is one .safetensors file: tensors, and in its metadata the spec in full; using it needs nothing else.

A generator is what such a file mostly holds; a discriminator's also says which images it judges (its wiring).

Nothing is ever pickled, so opening a stranger's file runs none of the stranger's code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from assemblies.discriminator import Discriminator
from assemblies.documents import parse, plugins_of
from assemblies.generator import Generator
from blocks.common.frozen_module import references, weights_follow
from registry import Block, Spec, SpecError
from registry.spec_file import write_whole

FORMAT = "ganblocks-1"


class CheckpointError(ValueError):
    """A file that cannot be used as a model, with what is wrong and what to do."""


def save_model(path: str | Path, network: Generator | Discriminator, extra: dict[str, Any] | None = None) -> None:
    """Write a network as one .safetensors file, whole or not at all.

    Args:
        path: Where to.
        network: The model; its spec, its plugins with versions and its value range go into the metadata.
        extra: More JSON data for the metadata, such as the command that made the file.
    """
    told: dict[str, Any]
    if isinstance(network, Generator):
        told = {"value_range": network.value_range}
    else:
        told = {"context": {name: getattr(network, name) for name in ("resolution", "image_channels", "cond_dim")}}
    if frozen := references(network):
        told["borrowed"] = frozen
    save_tensors(path, network.spec, network.state_dict(), told, extra)


def save_tensors(
    path: str | Path,
    spec: Spec,
    state: Mapping[str, torch.Tensor],
    told: Mapping[str, Any],
    extra: dict[str, Any] | None = None,
) -> None:
    """Write the file of a network that is not built: its spec and the tensors of its state dict.

    Args:
        path: Where to.
        spec: The network.
        state: Its tensors.
        told: A generator's `value_range`, or the `wiring` that a discriminator is built with.
        extra: More JSON data for the metadata.
    """
    about = {"spec": spec.to_dict(), "plugins": plugins_of(spec), **told}
    about |= {"torch": str(torch.__version__), "extra": extra or {}}
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    write_whole(path, save(tensors, metadata={"format": FORMAT, "ganblocks": json.dumps(about)}))


def load_model(path: str | Path, device: str | torch.device = "cpu") -> Generator:
    """The generator in a .safetensors file, in eval mode.

    Raises:
        CheckpointError: The file is missing, cut short, foreign, or does not fit its own spec.
        SpecValidationError: Its spec names blocks that are not installed.
    """
    tensors, about = read_tensors(path)
    if "context" in about:
        raise CheckpointError(f"{path} holds a discriminator; images come from a generator's file")
    with weights_follow():
        generator: Generator = _spec(about, Generator, path).build()
    load_tensors(generator, tensors, str(path))
    _compare(references(generator), about, path)
    return generator.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def load_discriminator(path: str | Path, device: str | torch.device = "cpu") -> Discriminator:
    """The discriminator in a .safetensors file, in eval mode.

    Raises:
        CheckpointError: The file is missing, cut short, foreign, or does not fit its own spec.
        SpecValidationError: Its spec names blocks that are not installed.
    """
    tensors, about = read_tensors(path)
    if "context" not in about:
        raise CheckpointError(f"{path} holds a generator, no discriminator")
    with weights_follow():
        discriminator: Discriminator = _spec(about, Discriminator, path).build(**about["context"])
    load_tensors(discriminator, tensors, str(path))
    _compare(references(discriminator), about, path)
    return discriminator.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _compare(found: dict[str, dict[str, str]], about: dict[str, Any], path: str | Path) -> None:
    """What the model borrows has to be what it was saved with."""
    for name, was in about.get("borrowed", {}).items():
        now = found.get(name, {})
        if now.get("sha256") != was["sha256"]:
            raise CheckpointError(
                f"{path} was made with {name} of weights {was.get('weights')} whose sha256 is {was['sha256'][:12]}...; "
                f"those here have {str(now.get('sha256'))[:12]}...: give the same ones, or its images would be others"
            )


def _spec(about: dict[str, Any], family: type[Block], path: str | Path) -> Spec:
    try:
        return parse(about["spec"], family, subject=str(path))
    except SpecError as error:
        made_with = ", ".join(f"{name} {version}" for name, version in about.get("plugins", {}).items())
        raise type(error)(error.problems, f"{path} (made with {made_with})") from None


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata of a model file, without its tensors."""
    return _open(path, tensors=False)[1]


def read_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and metadata of a file that this module wrote."""
    return _open(path, tensors=True)


def load_tensors(module: nn.Module, tensors: dict[str, torch.Tensor], subject: str) -> None:
    """Copy tensors into a module; every name and every shape has to fit.

    Raises:
        CheckpointError: Lists missing, unexpected and mis-shaped names.
    """
    wanted = module.state_dict()
    problems = [f"missing: {name}" for name in wanted if name not in tensors]
    problems += [f"unexpected: {name}" for name in tensors if name not in wanted]
    problems += [
        f"shape of {name}: {tuple(tensors[name].shape)} in the file, {tuple(value.shape)} in the model"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if problems:
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise CheckpointError(
            f"{subject} does not fit its spec ({len(problems)} names)\n  " + "\n  ".join(problems[:20]) + more
        )
    module.load_state_dict(tensors)


def _open(path: str | Path, *, tensors: bool) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    path = Path(path)
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "not a file"
        raise CheckpointError(f"{path} is {what}; give a run folder or a model's .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(
                    f"{path} is a .safetensors file, but not one of ganblocks: its metadata has no spec to build from"
                )
            loaded = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}
    except SafetensorError as error:
        size = path.stat().st_size
        raise CheckpointError(
            f"{path} cannot be read as .safetensors ({error}); it has {size} bytes: cut short, or another format?"
        ) from None
    return loaded, json.loads(metadata["ganblocks"])

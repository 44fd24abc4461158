"""A model file: one .safetensors file with the tensors of a network and, in its metadata, the network's spec.

The file of a discriminator also holds its context. Nothing is pickled, so loading a file cannot run code.
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
from blocks.common.computed_buffer import reset_buffers
from blocks.common.pretrained.frozen_module import defer_embedded_weights, list_frozen_modules
from registry import Block, Spec, SpecError
from registry.spec_file import write_atomically

FORMAT = "ganblocks-1"


class CheckpointError(ValueError):
    """A file cannot be used as a model or checkpoint; the message says why and what to do."""


def save_model(path: str | Path, network: Generator | Discriminator, extra: dict[str, Any] | None = None) -> None:
    """Write a network as one .safetensors file; an interrupted write leaves no partial file.

    Args:
        path: The file.
        network: The model; its spec, its plugins with versions and its value range go into the metadata.
        extra: More JSON data for the metadata, such as the command that made the file.
    """
    metadata: dict[str, Any]
    if isinstance(network, Generator):
        metadata = {"value_range": network.value_range}
    else:
        metadata = {"context": {name: getattr(network, name) for name in type(network).Context.model_fields}}
    if frozen := list_frozen_modules(network):
        metadata["frozen"] = frozen
    save_tensors(path, network.spec, network.state_dict(), metadata, extra)


def save_tensors(
    path: str | Path,
    spec: Spec,
    state: Mapping[str, torch.Tensor],
    metadata: Mapping[str, Any],
    extra: dict[str, Any] | None = None,
) -> None:
    """Write the model file of a network that is not built, from its spec and state dict.

    Args:
        path: The file.
        spec: The network.
        state: Its state dict.
        metadata: A generator's `value_range`, or the `context` that a discriminator is built with.
        extra: More JSON data for the metadata.
    """
    content = {"spec": spec.to_dict(), "plugins": plugins_of(spec), **metadata}
    content |= {"torch": str(torch.__version__), "extra": extra or {}}
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    write_atomically(path, save(tensors, metadata={"format": FORMAT, "ganblocks": json.dumps(content)}))


def load_model(path: str | Path, device: str | torch.device = "cpu") -> Generator:
    """The generator in a .safetensors file, in eval mode.

    Raises:
        CheckpointError: The file is missing, truncated or not a model file, or its tensors do not match its spec.
        SpecValidationError: Its spec names blocks that are not installed.
    """
    tensors, metadata = read_tensors(path)
    if "context" in metadata:
        raise CheckpointError(f"{path} holds a discriminator; pass the file of a generator")
    with defer_embedded_weights():
        generator: Generator = _spec(metadata, Generator, path).build()
    return _loaded(generator, tensors, metadata, path).to(device, memory_format=torch.channels_last)


def load_discriminator(path: str | Path, device: str | torch.device = "cpu") -> Discriminator:
    """The discriminator in a .safetensors file, in eval mode.

    Raises:
        CheckpointError: The file is missing, truncated or not a model file, or its tensors do not match its spec.
        SpecValidationError: Its spec names blocks that are not installed.
    """
    tensors, metadata = read_tensors(path)
    if "context" not in metadata:
        raise CheckpointError(f"{path} holds a generator; pass the file of a discriminator")
    with defer_embedded_weights():
        discriminator: Discriminator = _spec(metadata, Discriminator, path).build(**metadata["context"])
    return _loaded(discriminator, tensors, metadata, path).to(device, memory_format=torch.channels_last)


def _loaded(network: Any, tensors: dict[str, torch.Tensor], metadata: dict[str, Any], path: str | Path) -> Any:
    load_tensors(network, tensors, str(path))
    _compare(list_frozen_modules(network), metadata, path)
    return network.eval()


def _compare(current: dict[str, dict[str, str]], metadata: dict[str, Any], path: str | Path) -> None:
    """Refuse frozen modules with other weights than those that the model was saved with."""
    for name, saved in metadata.get("frozen", {}).items():
        sha256 = str(current.get(name, {}).get("sha256"))
        if sha256 != saved["sha256"]:
            raise CheckpointError(
                f"{path} was saved with weights {saved.get('weights')} in {name}, whose sha256 is "
                f"{saved['sha256'][:12]}...; those here have {sha256[:12]}...: provide the original weights, other "
                "ones would change the images"
            )


def _spec(metadata: dict[str, Any], family: type[Block], path: str | Path) -> Spec:
    try:
        return parse(metadata["spec"], family, subject=str(path))
    except SpecError as error:
        made_with = ", ".join(f"{name} {version}" for name, version in metadata.get("plugins", {}).items())
        raise type(error)(error.problems, f"{path} (made with {made_with})") from None


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata of a model file, without its tensors."""
    return _open(path, tensors=False)[1]


def read_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the metadata of a model file."""
    return _open(path, tensors=True)


def load_tensors(module: nn.Module, tensors: dict[str, torch.Tensor], subject: str) -> None:
    """Copy tensors into a module and recompute its other buffers; every name and every shape must match.

    Raises:
        CheckpointError: Lists missing and unexpected names and wrong shapes.
    """
    expected = module.state_dict()
    problems = [f"missing: {name}" for name in expected if name not in tensors]
    problems += [f"unexpected: {name}" for name in tensors if name not in expected]
    problems += [
        f"shape of {name}: {tuple(tensors[name].shape)} in the file, {tuple(value.shape)} in the model"
        for name, value in expected.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if problems:
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise CheckpointError(
            f"{subject} does not match its spec ({len(problems)} names)\n  " + "\n  ".join(problems[:20]) + more
        )
    module.load_state_dict(tensors)
    reset_buffers(module)  # a module that was built on the meta device has no values for them


def _open(path: str | Path, *, tensors: bool) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    path = Path(path)
    if not path.is_file():
        fact = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(f"{path} {fact}; pass a run folder or a model's .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                fact = "a .safetensors file without the metadata of a ganblocks model"
                raise CheckpointError(f"{path} is {fact}; to convert it: ganblocks convert")
            loaded = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}
    except SafetensorError as error:
        size = path.stat().st_size
        raise CheckpointError(
            f"{path} cannot be read as .safetensors ({error}); it has {size} bytes: truncated, or another format?"
        ) from None
    return loaded, json.loads(metadata["ganblocks"])

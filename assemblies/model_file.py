"""A model file: one .safetensors file with the tensors of a network and, in its metadata, the network's spec.

The file of a discriminator also holds its context. Nothing is pickled, so loading a file cannot run code. Its header is
compared with the network before memory is allocated.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import nn

from assemblies.discriminator import Discriminator
from assemblies.documents import parse, plugins_of
from assemblies.generator import Generator
from blocks.common.computed_buffer import reset_buffers
from blocks.common.pretrained.frozen_module import FrozenModule, defer_embedded_weights, list_frozen_modules
from blocks.families import to_channels_last
from registry import Block, Spec, SpecError, SpecValidationError, plain_data
from registry.external_files import external_files
from registry.limits import data_problems
from registry.spec_file import write_tensors
from registry.text import excerpt

FORMAT = "ganblocks-1"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}  # dtypes of tensors in model files, by their names in .safetensors headers
MAX_INTEGER = 2**64 - 1  # in the metadata, such as the seed of a training
MAX_BUFFERS = 2**30  # bytes of buffers that a network computes
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class CheckpointError(ValueError):
    """A file cannot be used as a model or checkpoint; the message says why and what to do."""


def save_model(path: str | Path, network: Generator | Discriminator, extra: dict[str, Any] | None = None) -> None:
    """Write a network as one .safetensors file; an interrupted write leaves no partial file.

    Args:
        path: The file.
        network: The model; its spec, its plugins with versions and its value range go into the metadata.
        extra: More JSON data for the metadata, such as the command that made the file.

    Raises:
        CheckpointError: `extra` has what could not be read again: NaN, integers beyond 64 bits, or too much.
    """
    save_tensors(path, network.spec, network.state_dict(), network_metadata(network), extra)


def network_metadata(network: Generator | Discriminator) -> dict[str, Any]:
    """What the metadata of a model file says about its network, beside the spec."""
    metadata: dict[str, Any]
    if isinstance(network, Generator):
        metadata = {"value_range": network.value_range}
        metadata |= {"class_names": network.class_names} if network.class_names else {}
    else:
        metadata = {"context": {name: getattr(network, name) for name in type(network).Context.model_fields}}
    if frozen := list_frozen_modules(network):
        metadata["frozen"] = frozen
    return metadata


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

    Raises:
        CheckpointError: `extra` has what could not be read again: NaN, integers beyond 64 bits, or too much.
    """
    content = {"spec": spec.to_dict(), "plugins": plugins_of(spec), **metadata}
    content |= {"torch": str(torch.__version__), "extra": extra or {}}
    if problems := data_problems(content, MAX_INTEGER):
        raise CheckpointError(f"{path}: {problems[0].location} of its metadata {problems[0].message}")
    write_tensors(path, state, {"format": FORMAT, "ganblocks": json.dumps(content)})


class Entry(NamedTuple):
    """A tensor as the header of its file describes it; `dtype` is text if models have no tensors of it."""

    shape: tuple[int, ...]
    dtype: torch.dtype | str


def load_model(path: str | Path, device: str | torch.device = "cpu", *, allow_external: bool = False) -> Generator:
    """The generator in a .safetensors file, in eval mode.

    Args:
        path: The file.
        device: The generator's device.
        allow_external: Whether to open other files and to download weights that the model file names. Files in the
            folder GANBLOCKS_WEIGHTS and weights that were downloaded before are always used.

    Raises:
        CheckpointError: The file is missing, truncated or not a model file, or its tensors do not match its spec.
        SpecError: Its spec names blocks that are not installed, or external files that are not allowed.
    """
    metadata = read_metadata(path)
    if "context" in metadata:
        raise CheckpointError(f"{path} holds a discriminator; pass the file of a generator")
    generator: Generator = _load(path, metadata, Generator, {}, allow_external=allow_external)
    generator.name_classes(metadata.get("class_names", []), str(path))
    return to_channels_last(generator).to(device)


def load_discriminator(
    path: str | Path, device: str | torch.device = "cpu", *, allow_external: bool = False
) -> Discriminator:
    """The discriminator in a .safetensors file, in eval mode; arguments and errors are those of `load_model`."""
    metadata = read_metadata(path)
    if "context" not in metadata:
        raise CheckpointError(f"{path} holds a generator; pass the file of a discriminator")
    context = metadata["context"]
    discriminator: Discriminator = _load(path, metadata, Discriminator, context, allow_external=allow_external)
    return to_channels_last(discriminator).to(device)


def _load(
    path: str | Path, metadata: dict[str, Any], family: type[Block], context: dict[str, Any], *, allow_external: bool
) -> Any:
    """The network of a file, in eval mode; the header is compared first with one on the meta device."""
    try:
        spec = parse(metadata["spec"], family, subject=str(path), plugins=metadata.get("plugins"))
        with external_files(allowed=allow_external), defer_embedded_weights():
            with torch.device("meta"):
                shell = spec.build(**context)
                _compare(shell, _header(path), str(path))
                _check_buffers(shell, str(path))
            network = spec.build(**context)
    except SpecError as error:
        made_with = ", ".join(f"{name} {version}" for name, version in metadata.get("plugins", {}).items())
        raise type(error)(error.problems, f"{path} (made with {excerpt(made_with, 300)})") from None
    tensors = read_tensors(path)[0]
    _warn_of_non_finite(tensors, path)
    load_tensors(network, tensors, str(path))
    _compare_frozen(list_frozen_modules(network), metadata, path)
    return network.eval()


def _compare_frozen(current: dict[str, dict[str, str]], metadata: dict[str, Any], path: str | Path) -> None:
    """Refuse frozen modules with other weights than those that the model was saved with."""
    for name, saved in metadata.get("frozen", {}).items():
        expected = str(saved.get("sha256") if isinstance(saved, dict) else saved)
        sha256 = str(current.get(name, {}).get("sha256"))
        if sha256 != expected:
            weights = saved.get("weights") if isinstance(saved, dict) else None
            raise CheckpointError(
                f"{path} was saved with weights {excerpt(weights)} in {excerpt(name)}, whose sha256 is "
                f"{excerpt(expected[:12])}...; those here have {sha256[:12]}...: provide the original weights, other "
                "ones would change the images"
            )


def _warn_of_non_finite(tensors: Mapping[str, torch.Tensor], path: str | Path) -> None:
    names = [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    if names:
        fact = f"{path}: {len(names)} tensors have values that are not finite, first {excerpt(names[0])}"
        warnings.warn(f"{fact}; the training diverged or the file is damaged", stacklevel=4)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata of a model file, without its tensors.

    Raises:
        CheckpointError: The file is missing, truncated or not a model file.
    """
    with _open(path) as file:
        return _metadata(file.metadata() or {}, path)


def read_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the metadata of a model file.

    Raises:
        CheckpointError: The file is missing, truncated or not a model file.
    """
    with _open(path) as file:
        metadata = _metadata(file.metadata() or {}, path)
        return {name: file.get_tensor(name) for name in file.keys()}, metadata


def load_tensors(module: nn.Module, tensors: Mapping[str, torch.Tensor], subject: str) -> None:
    """Copy tensors into a module; names and shapes must match, and floating-point tensors have such counterparts.

    Raises:
        CheckpointError: Lists missing and unexpected names, wrong shapes and wrong dtypes.
    """
    _compare(module, {name: Entry(tuple(value.shape), value.dtype) for name, value in tensors.items()}, subject)
    module.load_state_dict(tensors)
    reset_buffers(module)  # a module that was built on the meta device has no values for them


def _compare(module: nn.Module, entries: Mapping[str, Entry], subject: str) -> None:
    expected = module.state_dict()
    problems = [f"missing: {name}" for name in expected if name not in entries]
    problems += [f"unexpected: {excerpt(name)}" for name in entries if name not in expected]
    for name, value in expected.items():
        if (entry := entries.get(name)) is None:
            continue
        if entry.shape != tuple(value.shape):
            problems.append(f"shape of {name}: {entry.shape} in the file, {tuple(value.shape)} in the model")
        elif not _convertible(entry.dtype, value.dtype):
            problems.append(f"dtype of {name}: {entry.dtype} in the file, {value.dtype} in the model")
    if problems:
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise CheckpointError(
            f"{subject} does not match its spec ({len(problems)} names)\n  " + "\n  ".join(problems[:20]) + more
        )


def _check_buffers(module: nn.Module, subject: str) -> None:
    """Refuse a network with large buffers that are not in its file, such as tables of positions.

    Raises:
        CheckpointError: They have more than `MAX_BUFFERS` bytes.
    """
    parts = [part.network if isinstance(part, FrozenModule) else part for part in module.modules()]
    buffers = {id(buffer): buffer.nbytes for part in parts for buffer in part.buffers()}
    saved = {id(value) for value in module.state_dict(keep_vars=True).values()}
    total = sum(num_bytes for key, num_bytes in buffers.items() if key not in saved)
    if total > MAX_BUFFERS:
        raise CheckpointError(
            f"{subject} describes a network with {total / 2**30:.1f} GiB of buffers that are not in the file; at most "
            f"{MAX_BUFFERS / 2**30:.0f} GiB are possible"
        )


def _convertible(dtype: torch.dtype | str, target: torch.dtype) -> bool:
    return dtype == target or (dtype in FLOATS and target in FLOATS)


def _header(path: str | Path) -> dict[str, Entry]:
    with _open(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}
        return {
            name: Entry(tuple(each.get_shape()), DTYPES.get(each.get_dtype(), each.get_dtype()))
            for name, each in slices.items()
        }


def _open(path: str | Path) -> Any:
    path = Path(path)
    if not path.is_file():
        fact = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(f"{path} {fact}; pass a run folder or a model's .safetensors file")
    try:
        return safe_open(path, framework="pt")
    except Exception as error:  # SafetensorError, or what a damaged header leads to
        fact = f"{path} cannot be read as .safetensors ({excerpt(error, 300)}); it has {path.stat().st_size} bytes"
        other = "another format: pass a run folder or a model's .safetensors file"
        cure = "truncated, or another format?" if path.suffix == ".safetensors" else other
        raise CheckpointError(f"{fact}: {cure}") from None


def _metadata(header: Mapping[str, str], path: str | Path) -> dict[str, Any]:
    if (form := header.get("format", "")) != FORMAT:
        if form.startswith("ganblocks-"):
            raise CheckpointError(f"{path} is no model ({excerpt(form)}); pass a run folder, or a model's file")
        fact = "is a .safetensors file without the metadata of a ganblocks model"
        raise CheckpointError(f"{path} {fact}; to convert a checkpoint of another library: ganblocks convert")
    try:
        metadata = plain_data.parse(header.get("ganblocks", ""), "json", max_integer=MAX_INTEGER)
    except SpecValidationError as error:
        reason = excerpt(error.problems[0].message, 300)
        raise CheckpointError(f"{path} has damaged metadata ({reason}); save the model again") from None
    if not isinstance(metadata, dict) or not isinstance(metadata.get("spec"), dict):
        raise CheckpointError(f"{path} has damaged metadata: the spec cannot be read; save the model again")
    for name in ("plugins", "frozen", "context", "extra"):
        if not isinstance(metadata.get(name, {}), dict):
            raise CheckpointError(f"{path} has damaged metadata: {name} is not a mapping; save the model again")
    return metadata

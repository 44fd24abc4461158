"""Finds and reads files of pretrained weights; nothing in them is run."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

from torch import Tensor, nn

from assemblies.model_file import CheckpointError
from assemblies.unpickling.contents import is_state_dict, tensors_in
from assemblies.unpickling.files import read_file
from assemblies.unpickling.records import fields
from blocks.common.pretrained.frozen_module import WEIGHTS_ENV, find_weights_file
from registry import incompatible
from registry.external_files import check_external, external_files_allowed
from registry.text import excerpt

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
HOW_TO_PROVIDE = f"set `weights` to a file, or put it into the folder that the variable {WEIGHTS_ENV} names"
MAX_SIZE = 2**20
# of options whose name contains the word; masks and tables of position have the square of a length, or more
MAX_SIZES = {
    **dict.fromkeys(("depth", "layers", "blocks"), 1000),
    **dict.fromkeys(("img_size", "image_size"), 4096),
    "context_length": 8192,
    "window": 256,
}
NESTED_IN = ("state_dict_ema", "model_ema", "state_dict", "model")  # keys under which trainers save a state dict


def find_in_folder(*names: str) -> Path | None:
    """The first of these files in the folder GANBLOCKS_WEIGHTS."""
    if folder := os.environ.get(WEIGHTS_ENV):
        for name in names:
            if (path := Path(folder) / Path(name).name).is_file():
                return path
    return None


def find_file(name: str) -> Path | None:
    """The file of that path, or of that name in the folder GANBLOCKS_WEIGHTS; only the latter for a model file's spec.

    Raises:
        IncompatibleError: A model file names a path, and external files are not allowed.
    """
    if external_files_allowed():
        return find_weights_file(name)
    if (path := find_in_folder(name)) is None and find_weights_file(name) is not None:
        check_external("weights", f"to open {name}")
    return path


def cached_file(repository: str, names: Sequence[str]) -> Path | None:
    """The file of a repository on the Hugging Face Hub, if it was downloaded before."""
    if not repository:
        return None
    hub = import_module("huggingface_hub")
    paths = [hub.try_to_load_from_cache(repository, name) for name in names]
    return next((Path(path) for path in paths if isinstance(path, str)), None)


def check_reachable(url: str | None = None) -> None:
    """Raise OSError if the host of `url` (the Hugging Face Hub's by default) has no address.

    The libraries retry for a minute. Behind a proxy the address need not be known.
    """
    if not getproxies():
        url = url or import_module("huggingface_hub").constants.ENDPOINT
        socket.getaddrinfo(urlparse(url).hostname, 443)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The state dict in a .safetensors file or a file of torch.save; nothing in it is run.

    Raises:
        IncompatibleError: The file cannot be read, or has other contents.
    """
    try:
        content = fields(read_file(path))
    except CheckpointError as error:
        raise incompatible("weights", f"cannot be read: {error}") from None
    content = next((nested for key in NESTED_IN if (nested := fields(content.get(key)))), content)
    if not is_state_dict(content):
        raise incompatible("weights", f"{path} has no state dict: names with a tensor each")
    return tensors_in(content)


def check_state_dict(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Compare names and shapes with those of a network, which may be on the meta device.

    Names that the network does not have, such as a classifier's, are ignored.

    Raises:
        IncompatibleError: Names are missing, or have other shapes.
    """
    expected = network.state_dict()
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [
        f"{name} has shape {list(tensors[name].shape)}, not {list(value.shape)}"
        for name, value in expected.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise incompatible("weights", f"{path} is not of this network: {'; '.join(problems[:3])}{more}")


def load_state_dict(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy tensors into a network; errors are those of `check_state_dict`."""
    check_state_dict(network, tensors, path)
    network.load_state_dict({name: tensors[name].to(value.dtype) for name, value in network.state_dict().items()})


def check_sizes(parameter: str | tuple[str, ...], options: Mapping[str, Any]) -> None:
    """Refuse numbers of a library's options that no network has, and that would take hours or the memory.

    Args:
        parameter: The option that holds them; () if they are options of the block.
        options: The library's options.

    Raises:
        IncompatibleError: A number is too large.
    """
    path = (parameter,) if isinstance(parameter, str) else parameter
    for name, value in options.items():
        limit = min((limit for part, limit in MAX_SIZES.items() if part in name), default=MAX_SIZE)
        numbers = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(number, int | float) and not abs(number) <= limit for number in numbers):
            raise incompatible((*path, name), f"is {excerpt(value)}; at most {limit:,} is possible")


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def download_error(parameter: str, name: str, error: Exception, origin: Any, file_name: str) -> Exception:
    """The error of weights that are neither on this machine nor downloadable.

    Args:
        parameter: The option that names them.
        name: The weights.
        error: Why the download failed.
        origin: Where they can be downloaded.
        file_name: File name under which they are found in the folder GANBLOCKS_WEIGHTS.
    """
    fact = f"{name} is not on this machine and cannot be downloaded ({first_line(error)})"
    cure = f"download {origin} elsewhere, then {HOW_TO_PROVIDE}, as {file_name}"
    return incompatible(parameter, f"{fact}; {cure}")

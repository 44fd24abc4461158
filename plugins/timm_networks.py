"""Builds networks of timm and loads their weights."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from blocks.common.pretrained.frozen_module import should_load_weights
from plugins.pretrained import (
    SUFFIXES,
    cached_file,
    check_reachable,
    check_sizes,
    check_state_dict,
    download_error,
    find_file,
    find_in_folder,
    first_line,
    load_state_dict,
    read_state_dict,
)
from plugins.torchvision import import_beside_torchvision
from registry import incompatible
from registry.errors import nearest
from registry.external_files import check_external

Arguments = dict[str, int | float | str | bool | tuple[int, ...]]
# arguments of create_model that open files, contact servers, or that this module sets
RESERVED: tuple[str, ...] = (
    "cache_dir",
    "checkpoint_path",
    "exportable",
    "features_only",
    "in_chans",
    "no_jit",
    "num_classes",
)
RESERVED += ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_model_args", "scriptable")


def library() -> ModuleType:
    """timm, imported when a network is first built."""
    try:
        return import_beside_torchvision("timm")
    except ImportError as error:
        raise incompatible((), f"needs timm: pip install timm ({error})") from None


def build(
    name: str,
    weights: str | None,
    image_size: tuple[int, int] | None,
    arguments: Arguments,
    *,
    embed_weights: bool = False,
) -> Any:
    """A network of timm without its classifier, with its weights unless these are not to be loaded now.

    Raises:
        IncompatibleError: There is no such network, or its weights are not available here.
    """
    timm = library()
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise incompatible("network", f"unknown network {architecture!r}; {nearest(architecture, timm.list_models())}")
    for argument in arguments:
        if argument in RESERVED:
            raise incompatible(("arguments", argument), "is not an argument of the architecture; remove it")
    check_sizes("arguments", arguments)
    check_sizes((), {"image_size": image_size or ()})
    options: dict[str, Any] = {**arguments, "num_classes": 0}
    with torch.device("meta"):
        trial = create(name, options)
    patches = getattr(trial, "patch_embed", None)
    if image_size is not None and hasattr(patches, "img_size"):
        side = getattr(patches, "patch_size", (1, 1))
        if image_size[0] % side[0] or image_size[1] % side[1]:
            fact = f"{image_size[0]} x {image_size[1]} pixels do not split into patches of {side[0]} x {side[1]}"
            raise incompatible("image_size", fact)
        options["img_size"] = image_size
    if weights is None or not should_load_weights(embed_weights=embed_weights):
        return create(name, options)
    path = find(name, weights, trial.pretrained_cfg)
    tensors = read_state_dict(path)
    with torch.device("meta"):
        trial = create(name, options)
        check_state_dict(trial, adapted(tensors, trial, path), path)
    network = create(name, options)
    load_state_dict(network, adapted(tensors, network, path), path)
    return network


def create(name: str, options: dict[str, Any]) -> Any:
    try:
        return library().create_model(name, pretrained=False, **options)
    except (RuntimeError, TypeError, AssertionError, ValueError) as error:
        raise incompatible("arguments", f"timm cannot build {name} with them: {first_line(error)}") from None


def find(name: str, weights: str, published: Mapping[str, Any]) -> Path:
    """The file of a network's weights, downloaded if necessary.

    Raises:
        IncompatibleError: The weights are not available here, or may not be downloaded.
    """
    if weights != "pretrained":
        if (path := find_file(weights)) is None:
            raise incompatible("weights", f"the file {weights!r} does not exist; give a file, or pretrained")
        return path
    if (path := find_in_folder(*(f"{name}{suffix}" for suffix in SUFFIXES))) is not None:
        return path
    repository, url = published.get("hf_hub_id"), published.get("url")
    if not repository and not url:
        names = library().list_pretrained(f"{name.partition('.')[0]}*")
        raise incompatible("network", f"timm has no weights for {name!r}; {nearest(name, names)}")
    files = [published.get("hf_hub_filename") or "model.safetensors", "pytorch_model.bin"]
    if (path := cached_file(repository or "", files)) is not None:
        return path
    check_external("weights", f"to download {name} from {repository or url}")
    try:
        check_reachable(None if repository else url)
        if repository:
            return _download_from_hub(repository, files)
        return Path(import_module("timm.models._hub").download_cached_file(url))
    except Exception as error:  # a download can fail in any way
        raise download_error("weights", name, error, repository or url, f"{name}.safetensors") from None


def _download_from_hub(repository: str, files: list[str]) -> Path:
    hub = import_module("huggingface_hub")
    for name in files[:-1]:
        try:
            return Path(hub.hf_hub_download(repository, name))
        except hub.errors.EntryNotFoundError:
            continue
    return Path(hub.hf_hub_download(repository, files[-1]))


def adapted(tensors: Mapping[str, Tensor], network: Any, path: Path) -> Mapping[str, Tensor]:
    """The tensors of a file with names and sizes as in the network, which timm adapts as it does for its own files.

    Raises:
        IncompatibleError: The file is not of this network.
    """
    module = import_module(type(network).__module__)
    try:
        renamed: Mapping[str, Tensor] = getattr(module, "checkpoint_filter_fn", lambda state, _: state)(
            dict(tensors), network
        )
        return renamed
    except Exception as error:  # written for timm's own files
        raise incompatible("weights", f"{path} is not of this network: {first_line(error)}") from None


def is_plain_transformer(network: nn.Module) -> bool:
    return isinstance(network, library().models.vision_transformer.VisionTransformer)


def select_depths(network: Any, depths: tuple[int, ...] | None) -> tuple[int, ...]:
    """The depths to read; four equally spaced ones if None.

    Raises:
        IncompatibleError: The network has no such depth.
    """
    last, first = len(network.feature_info), 0 if is_plain_transformer(network) else 1
    if depths is None:
        quarters = [max(round(last * part / 4), 1) for part in (1, 2, 3, 4)]
        return (*dict.fromkeys(quarters), *([0] if first == 0 else []))
    if not depths:
        raise incompatible("depths", f"is empty; {type(network).__name__} has depths {first} to {last}")
    for index, depth in enumerate(depths):
        if not first <= depth <= last:
            fact = f"{type(network).__name__} has depths {first} to {last}, not {depth}"
            raise incompatible(("depths", index), fact)
    return depths


def native_size(network: Any) -> tuple[int, int]:
    """Height and width of the images that a network was trained on."""
    size = getattr(getattr(network, "patch_embed", None), "img_size", None) or network.pretrained_cfg["input_size"][1:]
    return size[0], size[1]

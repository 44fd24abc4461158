"""The two towers of a CLIP as open_clip builds them, with weights by name or from a file.

CLIP, Radford et al. 2021, https://arxiv.org/abs/2103.00020; open_clip, https://github.com/mlfoundations/open_clip.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple
from urllib.parse import urlparse
from urllib.request import getproxies

import torch
from torch import Tensor, nn

from blocks.common.frozen_module import FOLDER, find_weights, weights_are_wanted
from plugins.torchvision import import_beside_torchvision
from registry import incompatible
from registry.errors import nearest

Model = str | dict[str, Any]
Side = Literal["text", "visual"]
SUFFIXES = (".safetensors", ".pt", ".bin")


class Tower(NamedTuple):
    """One side of a CLIP: its network, what it embeds in, and where its weights came from."""

    network: nn.Module
    embed_dim: int
    source: dict[str, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def open_clip() -> ModuleType:
    """The library, imported when a tower is first built."""
    try:
        return import_beside_torchvision("open_clip")
    except ImportError as error:
        raise incompatible((), f"needs open_clip: pip install open_clip_torch ({error})") from None


def build(side: Side, model: Model, weights: str | None, *, embed_weights: bool = False) -> Tower:
    """A tower of a model, with its weights.

    Args:
        side: Of texts or of images.
        model: The name of one of open_clip's configurations, or such a configuration itself.
        weights: A name that open_clip knows for the model, or a file; None for random ones.
        embed_weights: Whether the tower is saved with the model.

    Raises:
        IncompatibleError: There is no such model, or its weights are not to be had here.
    """
    library = open_clip()
    config = configuration(model)
    tag = library.pretrained.get_pretrained_cfg(model, weights) if isinstance(model, str) and weights else {}
    made = {"text": library.model._build_text_tower, "visual": library.model._build_vision_tower}[side]
    part = {"text": "text_cfg", "visual": "vision_cfg"}[side]
    gelu = bool(tag.get("quick_gelu", config.get("quick_gelu", False)))
    try:
        network: nn.Module = made(config["embed_dim"], dict(config[part]), quick_gelu=gelu)
    except (TypeError, KeyError) as error:
        raise incompatible("model", f"open_clip builds no {side} tower of it: {error}") from None
    if weights is not None and weights_are_wanted(embed_weights=embed_weights):
        fill(network, side, find(model, weights, tag), gelu)
    source = {"model": model if isinstance(model, str) else "its configuration", "weights": weights or "random"}
    constants = library.constants
    mean, std = (
        tag.get(name, default)
        for name, default in (("mean", constants.OPENAI_DATASET_MEAN), ("std", constants.OPENAI_DATASET_STD))
    )
    return Tower(network, int(config["embed_dim"]), source, tuple(mean), tuple(std))


def configuration(model: Model) -> Mapping[str, Any]:
    """What open_clip's configuration of a model says."""
    if not isinstance(model, str):
        if missing := [name for name in ("embed_dim", "text_cfg", "vision_cfg") if name not in model]:
            raise incompatible("model", f"the configuration lacks {' and '.join(missing)}")
        return model
    library = open_clip()
    found = library.get_model_config(model)
    if found is None:
        raise incompatible("model", f"open_clip has no model {model!r}; {nearest(model, library.list_models())}")
    return dict(found)


def find(model: Model, weights: str, tag: Mapping[str, Any]) -> Path:
    """The file that holds a model's weights, downloaded if it has to be and can be."""
    names = [weights, *(f"{model}.{weights}{suffix}" for suffix in SUFFIXES)] if isinstance(model, str) else [weights]
    if (path := find_weights(*names)) is not None:
        return path
    ways = f"give `weights` as a file, or put it into a folder that the variable {FOLDER} names"
    if not tag:
        library = open_clip()
        tags = library.list_pretrained_tags_by_model(model) if isinstance(model, str) else []
        known = f", nor a name of weights for {model} ({nearest(weights, tags)})" if tags else ""
        raise incompatible("weights", f"{weights!r} is no file here{known}; {ways}")
    try:
        return cached(tag) or _downloaded(tag)
    except Exception as error:  # whatever a network does
        where = tag.get("hf_hub") or tag.get("url")
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise incompatible(
            "weights",
            f"{weights!r} of {model} is not on this machine and cannot be downloaded ({reason}); fetch {where} "
            f"where there is internet, then {ways}, as {model}.{weights}.safetensors or .pt",
        ) from None


def cached(tag: Mapping[str, Any]) -> Path | None:
    """The file of weights that the Hub's library has downloaded before."""
    hub = import_module("huggingface_hub")
    repository, _, name = tag.get("hf_hub", "").rpartition("/")
    names = [name] if name else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    found = [hub.try_to_load_from_cache(repository, each) for each in names] if repository else []
    return next((Path(each) for each in found if isinstance(each, str)), None)


def _downloaded(tag: Mapping[str, Any]) -> Path:
    url = tag.get("url", "") if not tag.get("hf_hub") else import_module("huggingface_hub").constants.ENDPOINT
    if not getproxies():  # without a proxy, a name that means nothing here needs no minute of attempts
        socket.getaddrinfo(urlparse(url).hostname, 443)
    return Path(open_clip().pretrained.download_pretrained(dict(tag)))


def fill(network: nn.Module, side: Side, path: Path, quick_gelu: bool) -> None:
    """Load one tower's part of a checkpoint of both."""
    try:
        tensors = open_clip().factory.load_state_dict(str(path))
    except Exception as error:
        raise incompatible("weights", f"{path} cannot be read as weights: {str(error).splitlines()[0]}") from None
    prefix = f"{side}."
    if side == "text" and not any(name.startswith(prefix) for name in tensors):
        tensors = open_clip().model.convert_to_custom_text_state_dict(tensors)
    embed_weights: dict[str, Tensor] = {
        name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)
    }
    wanted = network.state_dict()
    problems = [f"{name} is missing" for name in wanted if name not in embed_weights]
    problems += [
        f"{name} has shape {list(embed_weights[name].shape)}, not {list(value.shape)}"
        for name, value in wanted.items()
        if name in embed_weights and embed_weights[name].shape != value.shape
    ]
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise incompatible("weights", f"{path} is not of this model: {'; '.join(problems[:3])}{more}")
    network.load_state_dict({name: embed_weights[name].to(value.dtype) for name, value in wanted.items()})


@lru_cache
def tokenizer(context_length: int, name: str | None) -> Any:
    """open_clip's own byte pairs, or a tokenizer of transformers by name."""
    library = open_clip()
    if name is None:
        return library.SimpleTokenizer(context_length=context_length)
    return library.tokenizer.HFTokenizer(name, context_length=context_length)


def tokens(config: Mapping[str, Any], captions: list[str]) -> Tensor:
    """Captions as integers [B,L], longer ones cut."""
    text = config["text_cfg"]
    read = tokenizer(int(text.get("context_length", 77)), text.get("hf_tokenizer_name"))
    found: Tensor = read(captions)
    return found.to(torch.long)

"""The text and the image encoder of a CLIP, built by open_clip, with weights by name or from a file.

CLIP, Radford et al. 2021, https://arxiv.org/abs/2103.00020; open_clip, https://github.com/mlfoundations/open_clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from blocks.common.computed_buffer import computed_buffer
from blocks.common.pretrained.frozen_module import should_load_weights
from plugins.pretrained import (
    HOW_TO_PROVIDE,
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

Model = str | dict[str, Any]
Side = Literal["text", "visual"]
SECTIONS = {"text": "text_cfg", "visual": "vision_cfg"}
TINY: Model = {  # for tests
    "embed_dim": 6,
    "vision_cfg": {"image_size": 8, "layers": 1, "width": 8, "head_width": 4, "patch_size": 4},
    "text_cfg": {"context_length": 5, "vocab_size": 49408, "width": 4, "heads": 2, "layers": 1},
}
HUB_OPTIONS = ("hf_model_name", "hf_tokenizer_name")  # options of a configuration that name repositories


class Tower(NamedTuple):
    """One encoder of a CLIP.

    Args:
        network: The encoder.
        embed_dim: Features of its embeddings.
        source: Model and weights by name.
        mean: Per-channel mean of the image encoder's input, for images in [0,1].
        std: Per-channel standard deviation.
    """

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
    """A tower with its weights.

    Args:
        side: The text or the image encoder.
        model: Name of one of open_clip's configurations, or such a configuration.
        weights: A name of weights that open_clip knows for the model, or a file; None for random weights.
        embed_weights: Whether the tower's weights are in its block's state dict.

    Raises:
        IncompatibleError: The model is unknown, or its weights are not available here.
    """
    library = open_clip()
    config = configuration(model)
    tag = library.pretrained.get_pretrained_cfg(model, weights) if isinstance(model, str) and weights else {}
    make = {"text": library.model._build_text_tower, "visual": library.model._build_vision_tower}[side]
    quick_gelu = bool(tag.get("quick_gelu", config.get("quick_gelu", False)))

    def make_tower() -> Any:
        try:
            return make(config["embed_dim"], dict(config[SECTIONS[side]]), quick_gelu=quick_gelu)
        except (TypeError, KeyError, ValueError, AssertionError, ZeroDivisionError, RuntimeError) as error:
            raise incompatible("model", f"open_clip cannot build its {side} tower: {first_line(error)}") from None

    tensors: dict[str, Tensor] | None = None
    if weights is not None and should_load_weights(embed_weights=embed_weights):
        path = find(model, weights, tag)
        tensors = read_tower(side, path)
        with torch.device("meta"):
            check_state_dict(make_tower(), tensors, path)
    network = make_tower()
    if isinstance(getattr(network, "attn_mask", None), Tensor):
        computed_buffer(network, "attn_mask", network.build_causal_mask)
    if tensors is not None:
        load_state_dict(network, tensors, path)
    source = {"model": model if isinstance(model, str) else "its configuration", "weights": weights or "random"}
    constants = library.constants
    mean, std = (
        tag.get(name, default)
        for name, default in (("mean", constants.OPENAI_DATASET_MEAN), ("std", constants.OPENAI_DATASET_STD))
    )
    return Tower(network, int(config["embed_dim"]), source, tuple(mean), tuple(std))


class TokenEncoder(nn.Module):
    """A text encoder that outputs the embedding of a caption, then those of its tokens: ids [B,n] -> [B,1+n,D].

    Tokens after the end of the caption are zero vectors.

    Args:
        encoder: open_clip's text encoder.

    Raises:
        IncompatibleError: It is of a type whose tokens or ends of captions are not known.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        ends = getattr(encoder, "pool_type", None) in ("argmax", "eos")
        if not isinstance(encoder, open_clip().transformer.TextTransformer) or not ends or encoder.cls_emb is not None:
            fact = "the ends of captions are known for text encoders that pool at an end token"
            raise incompatible("tokens", f"{fact}, such as that of ViT-L-14; use such a model, or tokens: false")
        encoder.output_tokens = True
        self.encoder: Any = encoder
        self.num_tokens = int(encoder.context_length)

    def forward(self, ids: Tensor) -> Tensor:
        embedding, tokens = self.encoder(ids)
        projection = self.encoder.text_projection
        if projection is not None:
            tokens = projection(tokens) if isinstance(projection, nn.Linear) else tokens @ projection
        is_end = ids if self.encoder.pool_type == "argmax" else (ids == self.encoder.eos_id).int()
        inside = torch.arange(ids.shape[1], device=ids.device) <= is_end.argmax(dim=1, keepdim=True)
        return torch.cat([embedding[:, None], tokens * inside[:, :, None]], dim=1)


def configuration(model: Model) -> Mapping[str, Any]:
    """open_clip's configuration of a model.

    Raises:
        IncompatibleError: The model is unknown, its configuration is incomplete, or it needs external files that are
            not allowed.
    """
    if isinstance(model, str):
        if ":" in model:  # open_clip's hf-hub: and local-dir:
            check_external("model", f"to read the configuration {model}")
        library = open_clip()
        try:
            config = library.get_model_config(model)
        except Exception as error:  # a download can fail in any way
            raise incompatible("model", f"{model} cannot be read: {first_line(error)}") from None
        if config is None:
            raise incompatible("model", f"unknown model {model!r}; {nearest(model, library.list_models())}")
    else:
        config = model
    if missing := [name for name in ("embed_dim", "text_cfg", "vision_cfg") if name not in config]:
        raise incompatible("model", f"the configuration has no {' and no '.join(missing)}")
    if wrong := [name for name in SECTIONS.values() if not isinstance(config[name], Mapping)]:
        raise incompatible("model", f"{wrong[0]} of the configuration is not a mapping")
    check_sizes("model", config)
    for section in SECTIONS.values():
        check_sizes("model", config[section])
        for name in HUB_OPTIONS:
            if repository := config[section].get(name):
                check_external("model", f"{name} {repository} from the Hugging Face Hub")
        timm_model = config[section].get("timm_model_name") or ""
        if ":" in timm_model or config[section].get("timm_model_pretrained"):
            check_external("model", f"the timm network {timm_model} with its weights")
    return dict(config)


def find(model: Model, weights: str, tag: Mapping[str, Any]) -> Path:
    """The file of a model's weights, downloaded if necessary.

    Raises:
        IncompatibleError: The weights are not available here, or may not be downloaded.
    """
    file_names = [f"{model}.{weights}{suffix}" for suffix in SUFFIXES] if isinstance(model, str) else []
    if (path := find_in_folder(*file_names)) is not None:
        return path
    # a file in the working folder is not taken for weights that open_clip knows by the same name
    if not tag and (path := find_file(weights)) is not None:
        return path
    if not tag:
        tags = open_clip().list_pretrained_tags_by_model(model) if isinstance(model, str) else []
        known = f", nor are there weights of this name for {model} ({nearest(weights, tags)})" if tags else ""
        raise incompatible("weights", f"the file {weights!r} does not exist{known}; {HOW_TO_PROVIDE}")
    repository, _, name = tag.get("hf_hub", "").rpartition("/")
    origin = tag.get("hf_hub") or tag.get("url")
    if (path := cached_file(repository, [name] if name else CHECKPOINT_NAMES)) is not None:
        return path
    check_external("weights", f"to download {weights} of {model} from {origin}")
    try:
        check_reachable(None if repository else tag.get("url"))
        return Path(open_clip().pretrained.download_pretrained(dict(tag)))
    except Exception as error:  # a download can fail in any way
        file_name = f"{model}.{weights}.safetensors or .pt"
        raise download_error("weights", f"{weights!r} of {model}", error, origin, file_name) from None


CHECKPOINT_NAMES = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]


def read_tower(side: Side, path: Path) -> dict[str, Tensor]:
    """One tower's tensors in a checkpoint of both towers.

    Raises:
        IncompatibleError: The file cannot be read.
    """
    tensors = read_state_dict(path)
    prefix = f"{side}."
    if side == "text" and not any(name.startswith(prefix) for name in tensors):
        tensors = open_clip().model.convert_to_custom_text_state_dict(tensors)
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@lru_cache
def tokenizer(context_length: int, name: str | None) -> Any:
    """open_clip's byte-pair encoding, or a tokenizer of transformers by name."""
    library = open_clip()
    if name is None:
        return library.SimpleTokenizer(context_length=context_length)
    return library.tokenizer.HFTokenizer(name, context_length=context_length)


def tokens(config: Mapping[str, Any], captions: list[str]) -> Tensor:
    """Captions as token ids [B,L]; longer captions are truncated."""
    ids: Tensor = tokenizer_of(config)(captions)
    return ids.to(torch.long)


def num_truncated(config: Mapping[str, Any], caption: str) -> int:
    """How many tokens at the end of a caption `tokens` leaves out."""
    tokenize = tokenizer_of(config)
    if config["text_cfg"].get("hf_tokenizer_name"):
        length = len(tokenize.tokenizer(tokenize.clean_fn(caption))["input_ids"])
    else:
        length = len(tokenize.encode(caption)) + 2  # start and end
    return max(0, length - int(tokenize.context_length))


def tokenizer_of(config: Mapping[str, Any]) -> Any:
    text = config["text_cfg"]
    return tokenizer(int(text.get("context_length", 77)), text.get("hf_tokenizer_name"))

"""The networks of timm as eyes of a discriminator: frozen, read at several depths.

timm, Wightman 2019, https://github.com/huggingface/pytorch-image-models; in discriminators: Projected GANs, Sauer et
al. 2021, https://arxiv.org/abs/2111.01007, and StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section
3.2.

Names of networks with weights from self-supervision, which StyleGAN-T found to serve best:

- DINO: vit_small_patch16_224.dino (StyleGAN-T's), vit_small_patch8_224.dino, vit_base_patch16_224.dino
- DINOv2: vit_small_patch14_dinov2.lvd142m, vit_base_patch14_dinov2.lvd142m, vit_large_patch14_dinov2.lvd142m; they see
  518 pixels unless told otherwise, `image_size: 224` is 6 times quicker
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal
from urllib.parse import urlparse
from urllib.request import getproxies

import torch
from jaxtyping import Float
from pydantic import NonNegativeInt
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from blocks.common.frozen_module import FOLDER, FrozenModule, find_weights, weights_are_wanted
from blocks.families import Backbone, Resolution
from plugins.torchvision import import_beside_torchvision
from registry import IncompatibleError, Register, hookimpl, incompatible
from registry.errors import nearest
from registry.kernels import wants_second_order

Arguments = dict[str, int | float | str | bool | tuple[int, ...]]
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
TINY: Arguments = {"embed_dim": 8, "depth": 2, "num_heads": 2}


class TimmFeatures(Backbone, kind="timm"):
    """A network of timm, by name. Its weights are borrowed: checkpoints hold a reference to them, not a copy.

    Patch size, number of blocks and input size are the network's own. Of a vision transformer each depth gives its
    patches' tokens, of a convolutional network each stage its pixels.

    Args:
        image_channels: Channels of the images: 3, or 1 for grey ones, which are seen as RGB.
        network: The name of one of timm's networks; `timm.list_models()` has them all.
        weights: "pretrained" for those that timm has for the name; a file (.safetensors or .pth), also one in the
            folder that GANBLOCKS_WEIGHTS names; null for random ones, which are saved with the discriminator.
        depths: After how many blocks (or stages) tokens are read; 0 is what enters the first block of a vision
            transformer. null for four depths at equal steps, the last included, and then 0 where there is one.
        class_token: Whether a vision transformer's class token is added to each patch's token ("add") or left out.
        image_size: Height and width that images are brought to; null for the network's own. Position embeddings are
            resampled.
        arguments: Changes to the network, as timm's `create_model` takes them, such as {depth: 4, embed_dim: 64}.
        embed_weights: Whether the weights are saved with the discriminator all the same.
    """

    wants_published_weights = True
    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"network": "vit_tiny_patch16_224", "weights": None, "image_size": 32, "arguments": TINY}},
        {"spec": {"network": "resnet18", "weights": None, "image_size": 32, "depths": (1, 3)}},
    )
    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        image_channels: int = 3,
        *,
        network: str = "vit_small_patch16_224.dino",
        weights: str | None = "pretrained",
        depths: tuple[NonNegativeInt, ...] | None = None,
        class_token: Literal["add", "drop"] = "add",
        image_size: Resolution | None = None,
        arguments: Arguments = {},  # noqa: B006 (pydantic copies it)
        embed_weights: bool = False,
    ) -> None:
        super().__init__()
        if image_channels not in (1, 3):
            raise incompatible((), f"networks of timm see RGB or grey images, not {image_channels} channels")
        built = build(network, weights, image_size, arguments)
        reader = Reader(built, chosen_depths(built, depths), class_token == "add")
        self.input_size = image_size or native_size(built)
        self.num_parameters = sum(parameter.numel() for parameter in built.parameters())
        embed_weights = embed_weights or weights is None  # random weights would differ after each start
        frozen = {"timm": network, "weights": weights or ""}
        self.network = reader.requires_grad_(False).eval() if embed_weights else FrozenModule(reader, frozen)
        mean, std = (torch.tensor(built.pretrained_cfg[name])[:, None, None] for name in ("mean", "std"))
        self.register_buffer("scale", 0.5 / std, persistent=False)  # from [-1,1] to what the network learnt with
        self.register_buffer("shift", (0.5 - mean) / std, persistent=False)

    def forward(self, image: Float[Tensor, "b k h w"]) -> tuple[Float[Tensor, "b ..."], ...]:
        if tuple(image.shape[2:]) != self.input_size:
            image = F.adaptive_avg_pool2d(image, self.input_size)
        seen = image * self.scale.to(image.dtype) + self.shift.to(image.dtype)  # grey becomes RGB here
        if isinstance(self.network, FrozenModule):
            seen = seen.to(next(self.network.network.parameters()).dtype)
        # fused attention has no second derivative
        with sdpa_kernel(SDPBackend.MATH) if wants_second_order() else nullcontext():
            return tuple(tokens.to(image.dtype) for tokens in self.network(seen))


class Reader(nn.Module):
    """Tokens [B,N,C] of a network after chosen numbers of its blocks or stages."""

    def __init__(self, network: nn.Module, depths: tuple[int, ...], add_class_token: bool) -> None:
        super().__init__()
        self.network, self.depths = network, depths
        self.plain = is_plain_transformer(network)
        self.prefix = int(getattr(network, "num_prefix_tokens", 0) or 0)
        self.add_class_token = add_class_token and getattr(network, "cls_token", None) is not None

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b ..."], ...]:
        found = self.of_blocks(image) if self.plain else self.of_stages(image)
        return tuple(found[depth] for depth in self.depths)

    def of_blocks(self, image: Float[Tensor, "b 3 h w"]) -> dict[int, Tensor]:
        """Of a vision transformer; timm's `forward_intermediates` does not give what enters the first block."""
        network: Any = self.network
        x = network.norm_pre(network.patch_drop(network._pos_embed(network.patch_embed(image))))
        found = {0: x}
        for depth, block in enumerate(network.blocks[: max(self.depths)], start=1):
            x = block(x)
            found[depth] = x
        return {depth: self.read(found[depth][:, self.prefix :], found[depth][:, :1]) for depth in set(self.depths)}

    def of_stages(self, image: Float[Tensor, "b 3 h w"]) -> dict[int, Tensor]:
        """Of any other network of timm."""
        network: Any = self.network
        depths = sorted(set(self.depths))
        options = {"indices": [depth - 1 for depth in depths], "intermediates_only": True, "stop_early": True}
        if not self.prefix:
            maps = network.forward_intermediates(image, **options)
            return {depth: each.flatten(2).mT for depth, each in zip(depths, maps, strict=True)}
        pairs = network.forward_intermediates(image, return_prefix_tokens=True, **options)
        return {d: self.read(each.flatten(2).mT, first[:, :1]) for d, (each, first) in zip(depths, pairs, strict=True)}

    def read(self, tokens: Float[Tensor, "b n c"], first: Float[Tensor, "b 1 c"]) -> Float[Tensor, "b n c"]:
        return tokens + first if self.add_class_token else tokens


def library() -> ModuleType:
    """timm, imported when a network is first built."""
    try:
        return import_beside_torchvision("timm")
    except ImportError as error:
        raise incompatible((), f"needs timm: pip install timm ({error})") from None


def build(name: str, weights: str | None, image_size: tuple[int, int] | None, arguments: Arguments) -> Any:
    """A network of timm without its classifier, with its weights unless it is built on the meta device.

    Raises:
        IncompatibleError: There is no such network, or its weights are not to be had here.
    """
    timm = library()
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise incompatible(
            "network", f"timm has no network {architecture!r}; {nearest(architecture, timm.list_models())}"
        )
    options: dict[str, Any] = {**arguments, "num_classes": 0}
    with torch.device("meta"):  # a look at it costs nothing
        trial = create(name, options)
    patches = getattr(trial, "patch_embed", None)
    if image_size is not None and hasattr(patches, "img_size"):
        side = getattr(patches, "patch_size", (1, 1))
        if image_size[0] % side[0] or image_size[1] % side[1]:
            fact = f"{image_size[0]} x {image_size[1]} pixels do not split into patches of {side[0]} x {side[1]}"
            raise incompatible("image_size", fact)
        options["img_size"] = image_size
    if weights is None or not weights_are_wanted():
        return create(name, options)
    path = find_weights(*([weights] if weights != "pretrained" else [f"{name}{suffix}" for suffix in SUFFIXES]))
    if path is not None:
        return loaded(create(name, options), path)
    if weights != "pretrained":
        raise incompatible("weights", f"{weights!r} is no file here; give a file, or pretrained for what timm has")
    known = {"url", "hf_hub_id", "file"} & {key for key, value in trial.pretrained_cfg.items() if value}
    if not known:
        names = timm.list_pretrained(f"{architecture}*")
        raise incompatible("network", f"timm has no weights for {name!r}; {nearest(name, names)}")
    try:
        if (path := cached(trial.pretrained_cfg)) is not None:
            return loaded(create(name, options), path)
        if not getproxies():  # without a proxy, a name that means nothing here needs no minute of attempts
            socket.getaddrinfo(urlparse(import_module("huggingface_hub").constants.ENDPOINT).hostname, 443)
        return timm.create_model(name, pretrained=True, **options)
    except IncompatibleError:
        raise
    except Exception as error:  # whatever a network does
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        where = trial.pretrained_cfg.get("hf_hub_id") or trial.pretrained_cfg.get("url")
        raise incompatible(
            "weights",
            f"{name} is not on this machine and cannot be downloaded ({reason}); fetch {where} where there is internet,"
            f" then give weights as a file, or put it into a folder that the variable {FOLDER} names, as "
            f"{name}.safetensors",
        ) from None


def cached(published: Mapping[str, Any]) -> Path | None:
    """The file of weights that the Hub's library has downloaded before."""
    repository = published.get("hf_hub_id")
    if not repository:
        return None
    hub = import_module("huggingface_hub")
    names = [published.get("hf_hub_filename") or "model.safetensors", "pytorch_model.bin"]
    found = [hub.try_to_load_from_cache(repository, name) for name in names]
    return next((Path(each) for each in found if isinstance(each, str)), None)


def create(name: str, options: dict[str, Any]) -> Any:
    try:
        return library().create_model(name, pretrained=False, **options)
    except (RuntimeError, TypeError, AssertionError, ValueError) as error:
        raise incompatible(
            "arguments", f"timm builds no {name} of them: {str(error).strip().splitlines()[0]}"
        ) from None


def loaded(network: Any, path: Path) -> Any:
    """The network with the weights in a file; names and sizes are brought to timm's as timm does for its own."""
    timm = library()
    try:
        tensors = timm.models.load_state_dict(str(path))
        adapted = getattr(import_module(type(network).__module__), "checkpoint_filter_fn", lambda found, _: found)
        tensors = adapted(tensors, network)
    except Exception as error:
        raise incompatible("weights", f"{path} cannot be read as weights: {str(error).splitlines()[0]}") from None
    wanted = network.state_dict()
    problems = [f"{name} is missing" for name in wanted if name not in tensors]
    problems += [
        f"{name} has shape {list(tensors[name].shape)}, not {list(value.shape)}"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise incompatible("weights", f"{path} is not of this network: {'; '.join(problems[:3])}{more}")
    network.load_state_dict({name: tensors[name] for name in wanted})  # a classifier is left out
    return network


def is_plain_transformer(network: nn.Module) -> bool:
    return isinstance(network, library().models.vision_transformer.VisionTransformer)


def chosen_depths(network: Any, depths: tuple[int, ...] | None) -> tuple[int, ...]:
    """The depths to read, checked against what the network has."""
    last, first = len(network.feature_info), 0 if is_plain_transformer(network) else 1
    if depths is None:
        steps = [round(last * part / 4) for part in (1, 2, 3, 4)]
        return (*dict.fromkeys(max(step, 1) for step in steps), *([0] if first == 0 else []))
    for index, depth in enumerate(depths):
        if not first <= depth <= last:
            fact = f"{type(network).__name__} has depths {first} to {last}, not {depth}"
            raise incompatible(("depths", index), fact)
    if not depths:
        raise incompatible("depths", "names no depth to read")
    return depths


def native_size(network: Any) -> tuple[int, int]:
    """Height and width of the images that a network was made for."""
    size = getattr(getattr(network, "patch_embed", None), "img_size", None) or network.pretrained_cfg["input_size"][1:]
    return size[0], size[1]


@hookimpl
def register_blocks(register: Register) -> None:
    register(TimmFeatures)

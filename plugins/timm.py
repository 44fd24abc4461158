"""Networks of timm as the frozen backbones of a discriminator.

timm, Wightman 2019, https://github.com/huggingface/pytorch-image-models; in discriminators: Projected GANs, Sauer et
al. 2021, https://arxiv.org/abs/2111.01007, and StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section
3.2.

Networks with self-supervised weights, which StyleGAN-T reports to work best:

- DINO: vit_small_patch16_224.dino (StyleGAN-T's), vit_small_patch8_224.dino, vit_base_patch16_224.dino
- DINOv2: vit_small_patch14_dinov2.lvd142m, vit_base_patch14_dinov2.lvd142m, vit_large_patch14_dinov2.lvd142m; their
  default input is 518 pixels, `image_size: 224` is 6 times faster
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import NonNegativeInt
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from blocks.common.computed_buffer import computed_buffer
from blocks.common.images.value_range import normalization_scale, normalization_shift
from blocks.common.pretrained.frozen_module import FrozenModule
from blocks.common.shapes import check_nchw
from blocks.families import Backbone, Resolution
from plugins.timm_features import TimmExtractor
from plugins.timm_networks import Arguments, build, is_plain_transformer, native_size, select_depths
from registry import Register, hookimpl, incompatible
from registry.kernels import wants_second_order

TINY: Arguments = {"embed_dim": 8, "depth": 2, "num_heads": 2}


class TimmFeatures(Backbone, kind="timm"):
    """A network of timm. Its weights are frozen; checkpoints hold a reference to them instead of a copy.

    Patch size, number of blocks and input size are the network's own. A vision transformer outputs the patch tokens
    after a block, a convolutional network the pixels of a stage.

    Args:
        image_channels: Channels of the images: 3, or 1 for grey images, which are converted to RGB.
        network: Name of the network; `timm.list_models()` lists all.
        weights: "pretrained" for timm's weights of that name; a file (.safetensors or .pth), also by its name in the
            folder GANBLOCKS_WEIGHTS; null for random weights, which are saved with the discriminator.
        depths: Numbers of the blocks (or stages) whose outputs are used; 0 is the input of a vision transformer's first
            block. null for four equally spaced depths including the last, and 0 if there is one.
        class_token: Whether a vision transformer's class token is added to each patch token, dropped, or the first of
            the tokens.
        image_size: Height and width that images are resized to; null for the network's own. Position embeddings are
            resampled.
        norm: Whether a vision transformer's last norm is applied to the tokens of the last block, if it is a depth.
        arguments: Arguments of timm's `create_model`, such as {depth: 4, embed_dim: 64}.
        embed_weights: Whether the weights are saved with the discriminator.
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
        class_token: Literal["add", "drop", "first"] = "add",
        image_size: Resolution | None = None,
        norm: bool = False,
        arguments: Arguments = {},  # noqa: B006 (pydantic copies it)
        embed_weights: bool = False,
    ) -> None:
        super().__init__()
        if image_channels not in (1, 3):
            raise incompatible((), f"networks of timm take RGB or grey images, not {image_channels} channels")
        embed_weights = embed_weights or weights is None  # random weights differ at each start
        built = build(network, weights, image_size, arguments, embed_weights=embed_weights)
        if (norm or class_token == "first") and not is_plain_transformer(built):
            option, value = ("norm", "true") if norm else ("class_token", "first")
            raise incompatible(option, f"{value} needs a plain vision transformer, and {network} is none; omit it")
        reader = TokenReader(built, select_depths(built, depths), class_token, norm=norm)
        self.image_channels, self.input_size = image_channels, image_size or native_size(built)
        self.num_parameters = sum(parameter.numel() for parameter in built.parameters())
        source = {"timm": network, "weights": weights or ""}
        self.network = reader.requires_grad_(False).eval() if embed_weights else FrozenModule(reader, source)
        statistics = tuple(tuple(built.pretrained_cfg[name]) for name in ("mean", "std"))
        computed_buffer(self, "scale", normalization_scale, *statistics)
        computed_buffer(self, "shift", normalization_shift, *statistics)

    def forward(self, image: Float[Tensor, "b k h w"]) -> tuple[Float[Tensor, "b ..."], ...]:
        check_nchw(self, image, self.image_channels, name="image")
        if tuple(image.shape[2:]) != self.input_size:
            image = F.adaptive_avg_pool2d(image, self.input_size)
        normalized = image * self.scale.to(image.dtype) + self.shift.to(image.dtype)  # grey becomes RGB here
        if isinstance(self.network, FrozenModule):
            normalized = normalized.to(next(self.network.network.parameters()).dtype)
        # fused attention has no second derivative
        with sdpa_kernel(SDPBackend.MATH) if wants_second_order() else nullcontext():
            return tuple(tokens.to(image.dtype) for tokens in self.network(normalized))


class TokenReader(nn.Module):
    """The tokens [B,N,C] of a network after some of its blocks or stages.

    Args:
        network: The network of timm.
        depths: The blocks or stages.
        class_token: Whether the class token is added to each patch token ("add"), left out ("drop") or the first token
            ("first").
        norm: Whether the last block's tokens pass through the network's last norm.
    """

    def __init__(self, network: nn.Module, depths: tuple[int, ...], class_token: str, *, norm: bool = False) -> None:
        super().__init__()
        self.network, self.depths, self.norm = network, depths, norm
        self.plain = is_plain_transformer(network)
        self.prefix = int(getattr(network, "num_prefix_tokens", 0) or 0)
        self.class_token = class_token if getattr(network, "cls_token", None) is not None else "drop"

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b ..."], ...]:
        tokens = self.after_blocks(image) if self.plain else self.after_stages(image)
        return tuple(tokens[depth] for depth in self.depths)

    def after_blocks(self, image: Float[Tensor, "b 3 h w"]) -> dict[int, Tensor]:
        """Of a vision transformer, whose `forward_intermediates` does not return the first block's input."""
        network: Any = self.network
        x = network.norm_pre(network.patch_drop(network._pos_embed(network.patch_embed(image))))
        outputs = {0: x}
        for depth, block in enumerate(network.blocks[: max(self.depths)], start=1):
            x = block(x)
            outputs[depth] = x
        if self.norm and (last := len(network.blocks)) in outputs:
            outputs[last] = network.norm(outputs[last])
        return {d: self.add_class(outputs[d][:, self.prefix :], outputs[d][:, :1]) for d in set(self.depths)}

    def after_stages(self, image: Float[Tensor, "b 3 h w"]) -> dict[int, Tensor]:
        """Of any other network."""
        network: Any = self.network
        depths = sorted(set(self.depths))
        options = {"indices": [depth - 1 for depth in depths], "intermediates_only": True, "stop_early": True}
        if not self.prefix:
            maps = network.forward_intermediates(image, **options)
            return {depth: features.flatten(2).mT for depth, features in zip(depths, maps, strict=True)}
        pairs = network.forward_intermediates(image, return_prefix_tokens=True, **options)
        return {
            depth: self.add_class(features.flatten(2).mT, prefix[:, :1])
            for depth, (features, prefix) in zip(depths, pairs, strict=True)
        }

    def add_class(self, tokens: Float[Tensor, "b n c"], class_token: Float[Tensor, "b 1 c"]) -> Float[Tensor, "b n c"]:
        if self.class_token == "first":
            return torch.cat([class_token, tokens], dim=1)
        return tokens + class_token if self.class_token == "add" else tokens


@hookimpl
def register_blocks(register: Register) -> None:
    register(TimmFeatures)
    register(TimmExtractor)

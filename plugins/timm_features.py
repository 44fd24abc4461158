"""Networks of timm as the feature extractors of metrics.

With DINOv2: Stein et al. 2023, https://arxiv.org/abs/2306.04675, who find its Fréchet distance closer to what people
judge than Inception's.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from blocks.common.computed_buffer import computed_buffer
from blocks.common.images.value_range import normalization_scale, normalization_shift
from blocks.common.pretrained.frozen_module import FrozenModule
from blocks.common.pretrained.hashes import hashed_source
from blocks.families import FeatureExtractor, Resolution
from plugins.timm_networks import Arguments, build, native_size


class TimmExtractor(FeatureExtractor, kind="timm"):
    """The pooled features of a network of timm: a vision transformer's class token, a convolutional network's mean.

    Args:
        network: Name of the network; `timm.list_models()` lists all.
        weights: "pretrained" for timm's weights of that name; a file (.safetensors or .pth), also by its name in the
            folder GANBLOCKS_WEIGHTS; null for random weights.
        image_size: Height and width that images are resized to; null for the network's own.
        resize: Filter for resizing, with antialiasing.
        arguments: Arguments of timm's `create_model`, such as {depth: 4, embed_dim: 64}.
    """

    wants_published_weights = True
    examples: ClassVar[tuple[Any, ...]] = (
        {
            "spec": {
                "network": "vit_tiny_patch16_224",
                "weights": None,
                "image_size": 32,
                "arguments": {"embed_dim": 8, "depth": 1, "num_heads": 2},
            }
        },
    )
    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        *,
        network: str = "vit_large_patch14_dinov2.lvd142m",
        weights: str | None = "pretrained",
        image_size: Resolution | None = None,
        resize: Literal["bicubic", "bilinear"] = "bicubic",
        arguments: Arguments = {},  # noqa: B006 (pydantic copies it)
    ) -> None:
        super().__init__()
        built = build(network, weights, image_size, arguments, embed_weights=weights is None)
        self.size, self.resize = image_size or native_size(built), resize
        self.resize_filter = f"{resize} of PyTorch, with antialiasing"
        self.origin = {"timm": network, "weights": weights or "random"}
        random = weights is None  # random weights are in the state dict
        self.network = built.requires_grad_(False).eval() if random else FrozenModule(built, self.origin)
        statistics = tuple(tuple(built.pretrained_cfg[name]) for name in ("mean", "std"))
        computed_buffer(self, "scale", normalization_scale, *statistics)
        computed_buffer(self, "shift", normalization_shift, *statistics)

    def forward(self, images: Shaped[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        x = images.to(self.scale.dtype) / 127.5 - 1
        if tuple(x.shape[2:]) != self.size:
            x = F.interpolate(x, self.size, mode=self.resize, antialias=True, align_corners=False)
        features: Tensor = self.network(x * self.scale + self.shift)
        return features.to(self.scale.dtype)

    def source(self) -> dict[str, str]:
        return hashed_source(self.network, self.origin)

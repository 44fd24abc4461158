"""A transformer block: attention and a feed-forward network, each normalised first and added to what came in.

ViT, Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929, section 3.1; with styled norms: the generators' blocks
of ViTGAN, https://arxiv.org/abs/2107.04589, section 3.3, and of StyleNAT, https://arxiv.org/abs/2211.05770.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from blocks.families import (
    Attention,
    FeedForward,
    Layer,
    Norm,
    Resolution,
    WeightNorm,
    rows,
    to_nchw,
    to_nhwc,
)
from blocks.norm.layer_scale import LayerScale
from blocks.weight_norm.apply import normalize_weights
from registry import Slot


class Transformer(Layer, kind="transformer"):
    """Attention, then a feed-forward network: y = x + attention(norm(x)), then y + feed_forward(norm(y)).

    A norm that takes a style makes this a generator's block; both norms then take the same style.

    Args:
        dim: Channels C of the map.
        resolution: Height and width of the map, in pixels.
        style_dim: Features S of the style; None where there are no styles.
        attention: What mixes the pixels.
        norm: What comes before the attention, and again, with weights of its own, before the feed-forward network.
        feed_forward: What mixes the channels; null for a block of attention alone.
        layer_scale: Value at the start of a learned gain per channel on what is added; null for no gain.
        residual: What is added to: "raw", what came in, or "normalised", what the norm made of it (the ViTGAN
            authors' code).
        shared_norm: Whether one norm, with one set of weights, comes before both (ViTGAN's best-known
            re-implementation).
        weight_norm: Reparametrises the weights of all linear maps of attention and feed-forward network; null for none.
    """

    examples: ClassVar = (
        {"spec": {"attention": {"kind": "dense", "num_heads": 4}, "norm": "sln", "residual": "normalised"}},
        {"spec": {"attention": {"kind": "na", "num_heads": 4, "kernel_size": 3}, "norm": "adain", "layer_scale": 0.1}},
        {"spec": {"feed_forward": None, "norm": "pixel-norm"}},
        {"spec": {"feed_forward": "identity", "norm": "sln", "shared_norm": True}},
    )

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        style_dim: int | None = None,
        *,
        attention: Slot[Attention] = "dense",
        norm: Slot[Norm] = "layer-norm",
        feed_forward: Slot[FeedForward] | None = "mlp",
        layer_scale: float | None = None,
        residual: Literal["raw", "normalised"] = "raw",
        shared_norm: bool = False,
        weight_norm: Slot[WeightNorm] | None = None,
    ) -> None:
        super().__init__()
        place = {"dim": dim, "resolution": resolution, "style_dim": style_dim}
        self.raw = residual == "raw"
        self.norm1 = self.fill("norm", norm, **place)
        self.attn = self.fill("attention", attention, **place)
        self.scale1 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.mlp = self.fill("feed_forward", feed_forward, **place)
        if self.mlp is not None:
            self.norm2 = None if shared_norm else self.fill("norm", norm, **place)
            self.scale2 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        if weight_norm is not None:
            normalize_weights(self.attn, weight_norm)
            if self.mlp is not None:
                normalize_weights(self.mlp, weight_norm)
        self.num_styles = self.norm1.num_styles

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        (w,) = rows(1, ws if self.num_styles else None)
        x = to_nhwc(x)
        normal = self.norm1(x, w)
        x = (x if self.raw else normal) + self.scale1(self.attn(normal))
        if self.mlp is not None:
            normal = (self.norm1 if self.norm2 is None else self.norm2)(x, w)
            x = (x if self.raw else normal) + self.scale2(self.mlp(normal))
        return to_nchw(x)

"""A pre-norm transformer layer: attention and a feed-forward network, each with a residual connection.

ViT, Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929, section 3.1; with styled norms: the generators of
ViTGAN, https://arxiv.org/abs/2107.04589, section 3.3, and of StyleNAT, https://arxiv.org/abs/2211.05770.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from blocks.common.shapes import check_nchw, check_styles
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

    With a styled norm the layer takes one style vector, which both norms use.

    Args:
        dim: Channels C of the map.
        resolution: Height and width of the map, in pixels.
        style_dim: Features S of the style; None if there are no styles.
        attention: The attention block.
        norm: The norm before the attention; a second one, with its own weights, precedes the feed-forward network.
        feed_forward: The feed-forward block; null for attention only.
        layer_scale: Initial value of a learned gain per channel on both branches; null for none.
        residual: The shortcut: "raw" is the input, "normalised" the output of the norm (the ViTGAN authors' code).
        shared_norm: Whether both branches use the same norm with the same weights (ViTGAN's best-known
            re-implementation).
        weight_norm: Reparametrises the weights of all linear layers of both branches; null for none.
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
        context = {"dim": dim, "resolution": resolution, "style_dim": style_dim}
        self.dim, self.style_dim, self.raw = dim, style_dim or 0, residual == "raw"
        self.norm1 = self.fill("norm", norm, **context)
        self.attn = self.fill("attention", attention, **context)
        self.scale1 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.mlp = self.fill("feed_forward", feed_forward, **context)
        if self.mlp is not None:
            self.norm2 = None if shared_norm else self.fill("norm", norm, **context)
            self.scale2 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        if weight_norm is not None:
            normalize_weights(self.attn, weight_norm)
            if self.mlp is not None:
                normalize_weights(self.mlp, weight_norm)
        self.num_styles = self.norm1.num_styles

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        check_nchw(self, x, self.dim)
        if self.num_styles:
            ws = check_styles(self, ws, self.num_styles, self.style_dim, x)
        (w,) = rows(1, ws if self.num_styles else None)
        x = to_nhwc(x)
        normalized = self.norm1(x, w)
        x = (x if self.raw else normalized) + self.scale1(self.attn(normalized))
        if self.mlp is not None:
            normalized = (self.norm1 if self.norm2 is None else self.norm2)(x, w)
            x = (x if self.raw else normalized) + self.scale2(self.mlp(normalized))
        return to_nchw(x)

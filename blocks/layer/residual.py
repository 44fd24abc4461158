"""A residual branch around any layer, normalised and scaled: what lets StyleGAN-T's generator be deep.

StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section 3.1; layer scale: CaiT, Touvron et al. 2021,
https://arxiv.org/abs/2103.17239, section 2.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from blocks.families import Layer, Norm, Resolution, to_nchw, to_nhwc
from blocks.norm.layer_scale import LayerScale
from registry import Slot, incompatible


class Residual(Layer, kind="residual"):
    """y = gain (r + gamma layer(norm(x))), r being x or norm(x), gamma one learned number per channel.

    Args:
        dim: Channels C of the map.
        resolution: Height and width of the map, in pixels.
        style_dim: Features S of the style; None where there are no styles.
        layer: What is added; it keeps the shape of the map. Its styles come first, then that of the norm.
        norm: What comes before it; null for nothing.
        layer_scale: Value of gamma at the start.
        residual: What is added to: "raw", what came in, or "normalised", what the norm made of it (the StyleGAN-T
            authors' code, which so brings the features to one scale at each such layer).
        gain: Factor of the sum.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"norm": {"kind": "group-norm", "num_groups": 4}}},
        {"spec": {"norm": "adain", "layer_scale": 0.1, "residual": "raw", "gain": 1.0}},
        {"spec": {"norm": None, "layer": {"kind": "conv", "dim": 16}}},
    )

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        style_dim: int | None = None,
        *,
        layer: Slot[Layer] = "modulated-conv",
        norm: Slot[Norm] | None = "group-norm",
        layer_scale: float = 1e-5,
        residual: Literal["raw", "normalised"] = "normalised",
        gain: PositiveFloat = 2**0.5,
    ) -> None:
        super().__init__()
        place: dict[str, Any] = {"dim": dim, "in_dim": dim, "resolution": resolution, "style_dim": style_dim}
        self.raw, self.gain = residual == "raw", gain
        self.layer: Layer = self.fill("layer", layer, **place)
        if (repeat := self.layer.spec.repeat) > 1:
            raise incompatible(("layer", "repeat"), f"{repeat} layers do not go into one branch; repeat the residual")
        self.norm: Norm | None = self.fill("norm", norm, **place)
        self.scale = LayerScale(dim, layer_scale)
        self.styles_of_layer = self.layer.num_styles
        self.num_styles = self.styles_of_layer + (0 if self.norm is None else self.norm.num_styles)

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        normal = x
        if self.norm is not None:
            w = ws[:, self.styles_of_layer] if ws is not None and self.norm.num_styles else None
            normal = to_nchw(self.norm(to_nhwc(x), w))
        y = self.layer(normal, ws)
        if y.shape != x.shape:
            raise ValueError(f"the layer makes {list(y.shape[1:])} of {list(x.shape[1:])}; a residual keeps the shape")
        gained = y * (self.scale.gamma * self.gain)[:, None, None]
        return torch.add(gained, x if self.raw else normal, alpha=self.gain)

"""A residual connection around a layer, with a norm and layer scale: StyleGAN-T's deep generator blocks.

StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section 3.1; layer scale: CaiT, Touvron et al. 2021,
https://arxiv.org/abs/2103.17239, section 2.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from blocks.common.shapes import check_nchw, check_styles
from blocks.families import Layer, Norm, Resolution, to_nchw, to_nhwc
from blocks.norm.layer_scale import LayerScale
from registry import Slot, incompatible


class Residual(Layer, kind="residual"):
    """y = gain (r + gamma layer(norm(x))), where r is x or norm(x) and gamma is a learned gain per channel.

    Args:
        dim: Channels C of the map.
        resolution: Height and width of the map, in pixels.
        style_dim: Features S of the style; None if there are no styles.
        layer: The layer of the residual branch; it has to keep the shape. Its styles come before the norm's.
        norm: The norm before the layer; null for none.
        layer_scale: Initial value of gamma.
        residual: The shortcut: "raw" is the input, "normalised" the output of the norm (the StyleGAN-T authors' code,
            which thus rescales the features at each layer).
        gain: Factor of the sum.

    Raises:
        IncompatibleError: The layer's spec has `repeat` above 1.
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
        context: dict[str, Any] = {"dim": dim, "in_dim": dim, "resolution": resolution, "style_dim": style_dim}
        self.dim, self.style_dim = dim, style_dim or 0
        self.raw, self.gain = residual == "raw", gain
        self.layer: Layer = self.fill("layer", layer, **context)
        if (repeat := self.layer.spec.repeat) > 1:
            fact = f"a residual branch holds one layer, not {repeat}"
            raise incompatible(("layer", "repeat"), f"{fact}; set repeat on the residual instead")
        self.norm: Norm | None = self.fill("norm", norm, **context)
        self.scale = LayerScale(dim, layer_scale)
        self.num_layer_styles = self.layer.num_styles
        self.num_styles = self.num_layer_styles + (0 if self.norm is None else self.norm.num_styles)

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        check_nchw(self, x, self.dim)
        if self.num_styles:
            ws = check_styles(self, ws, self.num_styles, self.style_dim, x)
        normalized = x
        if self.norm is not None:
            w = ws[:, self.num_layer_styles] if ws is not None and self.norm.num_styles else None
            normalized = to_nchw(self.norm(to_nhwc(x), w))
        y = self.layer(normalized, ws)
        if y.shape != x.shape:
            shapes = f"the layer turns {list(x.shape[1:])} into {list(y.shape[1:])}"
            raise ValueError(f"{shapes}; in a residual branch it has to keep the shape")
        gamma = self.scale.gamma.to(y.dtype)[:, None, None]
        # in place, for less memory: the backward pass does not need the sum
        return torch.addcmul(x if self.raw else normalized, y, gamma).mul_(self.gain)

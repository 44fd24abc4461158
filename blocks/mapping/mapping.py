"""The mapping network, which gives styles a space of their own, and truncation towards that space's mean.

StyleGAN, Karras et al. 2019, https://arxiv.org/abs/1812.04948, sections 2 and B; conditions as in StyleGAN2-ADA,
https://arxiv.org/abs/2006.06676.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.equalized import EqualLinear
from blocks.families import Mapping
from blocks.mapping.truncation import follow, truncate
from registry import incompatible


class MappingNetwork(Mapping, kind="mapping"):
    """Linear maps with leaky ReLU from z, and an embedding of c, to one style, which every place of ws repeats.

    In training mode the tracked mean `w_avg` follows the mean style of each batch.

    Args:
        z_dim: Features of z; 0 for a mapping of c alone.
        style_dim: Features of a style.
        num_styles: Styles in ws.
        cond_dim: Features of c; 0 for none.
        num_layers: Linear maps, each followed by leaky ReLU.
        layer_dim: Features between the linear maps; style_dim if None.
        embed_dim: Features that c is embedded in; style_dim if None.
        lr_multiplier: By how much slower than the rest these layers learn; the embedding of c learns at full rate.
        w_avg_beta: Share of `w_avg` that stays at each step.
        normalize_z: Whether z is brought to unit mean square first.
    """

    examples: ClassVar = (
        {"spec": {"num_layers": 2}},
        {"spec": {"num_layers": 3, "layer_dim": 10, "embed_dim": 6}, "context": {"cond_dim": 5}},
        {"spec": {"num_layers": 1, "normalize_z": False}},
    )
    w_avg: Tensor

    def __init__(
        self,
        z_dim: NonNegativeInt,
        style_dim: int,
        num_styles: int,
        cond_dim: int = 0,
        *,
        num_layers: PositiveInt = 8,
        layer_dim: PositiveInt | None = None,
        embed_dim: PositiveInt | None = None,
        lr_multiplier: PositiveFloat = 0.01,
        w_avg_beta: Annotated[float, Field(ge=0, lt=1)] = 0.995,
        normalize_z: bool = True,
    ) -> None:
        super().__init__()
        if not z_dim and not cond_dim:
            raise incompatible((), "has neither z nor c to map; give z_dim or cond_dim")
        self.num_styles, self.w_avg_beta, self.normalize_z = num_styles, w_avg_beta, normalize_z
        embed_dim = (embed_dim or style_dim) if cond_dim else 0
        self.embed = EqualLinear(cond_dim, embed_dim) if cond_dim else None
        widths = [z_dim + embed_dim, *[layer_dim or style_dim] * (num_layers - 1), style_dim]
        self.layers = nn.Sequential(
            *(EqualLinear(i, o, lr_multiplier=lr_multiplier, activation="lrelu") for i, o in pairwise(widths))
        )
        self.register_buffer("w_avg", torch.zeros(style_dim))

    def forward(
        self,
        z: Float[Tensor, "b z"],
        c: Float[Tensor, "b d"] | None = None,
        *,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        update_w_avg: bool = True,
    ) -> Float[Tensor, "b n s"]:
        """ws of z and c.

        Args:
            z: Latents.
            c: Conditions, where the mapping has a `cond_dim`.
            truncation_psi: 1 leaves the styles as they are, 0 makes all of them the tracked mean.
            truncation_cutoff: How many styles, from the first, are truncated; None for all.
            update_w_avg: Whether training moves `w_avg`; False for the second latent of style mixing.
        """
        x = F.rms_norm(z, z.shape[1:], eps=1e-8) if self.normalize_z else z
        if self.embed is not None:
            if c is None:
                raise ValueError(f"this mapping was made for conditions of {self.embed.in_dim} features: give c")
            embedded = self.embed(c)
            x = torch.cat([x, F.rms_norm(embedded, embedded.shape[1:], eps=1e-8)], dim=1)
        w: Tensor = self.layers(x)
        if self.training and update_w_avg:
            follow(self.w_avg, w, self.w_avg_beta)
        ws = w[:, None].expand(-1, self.num_styles, -1)
        return truncate(ws, self.w_avg, truncation_psi, truncation_cutoff)

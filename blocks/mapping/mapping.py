"""StyleGAN's mapping network from latents to styles, with truncation.

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
from blocks.common.shapes import check_condition, check_vectors
from blocks.families import Count, Mapping
from blocks.mapping.truncation import truncate, update_mean
from registry import incompatible


class MappingNetwork(Mapping, kind="mapping"):
    """An MLP with leaky ReLU from z and an embedding of c to a style; all styles in ws are equal.

    In training mode the running mean `w_avg` [S] is updated by the mean style of each batch.

    Args:
        z_dim: Features of z; 0 to map c alone.
        style_dim: Features S of a style.
        num_styles: Number of styles in ws.
        cond_dim: Features D of c; 0 for none.
        num_layers: Number of linear layers, each followed by leaky ReLU.
        layer_dim: Features between the linear layers; null for `style_dim`.
        embed_dim: Features of the embedding of c; null for `style_dim`.
        lr_multiplier: Learning-rate multiplier of the linear layers; the embedding of c has multiplier 1.
        w_avg_beta: Decay of the running mean `w_avg` per step.
        normalize_z: Whether z is scaled to unit mean square first.

    Raises:
        IncompatibleError: Both `z_dim` and `cond_dim` are 0.
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
        num_layers: Count = 8,
        layer_dim: PositiveInt | None = None,
        embed_dim: PositiveInt | None = None,
        lr_multiplier: PositiveFloat = 0.01,
        w_avg_beta: Annotated[float, Field(ge=0, lt=1)] = 0.995,
        normalize_z: bool = True,
    ) -> None:
        super().__init__()
        if not z_dim and not cond_dim:
            raise incompatible((), "has neither z nor c as input; set z_dim or cond_dim")
        self.z_dim, self.cond_dim = z_dim, cond_dim
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
            c: Conditions; required if the mapping has a `cond_dim`, refused if it has none.
            truncation_psi: 1 leaves the styles unchanged, 0 replaces them by the running mean.
            truncation_cutoff: Number of styles, from the first, that are truncated; None for all.
            update_w_avg: Whether `w_avg` is updated in training mode; False for the second latent of style mixing.

        Raises:
            ValueError: `z` or `c` has another shape, `c` is missing, or there is no `cond_dim` for it.
        """
        check_vectors(self, "z", z, self.z_dim)
        check_condition(self, c, self.cond_dim, z)
        x = F.rms_norm(z, z.shape[1:], eps=1e-8) if self.normalize_z else z
        if self.embed is not None:
            embedded = self.embed(c)
            x = torch.cat([x, F.rms_norm(embedded, embedded.shape[1:], eps=1e-8)], dim=1)
        w: Tensor = self.layers(x)
        if self.training and update_w_avg:
            update_mean(self.w_avg, w, self.w_avg_beta)
        ws = w[:, None].expand(-1, self.num_styles, -1)
        return truncate(ws, self.w_avg, truncation_psi, truncation_cutoff)

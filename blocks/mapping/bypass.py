"""A mapping network that maps only z; the condition is appended, so that each condition has a known mean style.

StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section 3.1 (text conditioning) and 3.3 (explicit
truncation): a style is the mapped z concatenated with c.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.autocast import no_autocast
from blocks.common.equalized import EqualLinear
from blocks.common.shapes import check_condition, check_vectors
from blocks.families import Count, Mapping
from blocks.mapping.truncation import truncate, update_mean
from registry import incompatible


class BypassMapping(Mapping, kind="bypass-mapping"):
    """An MLP of z with leaky ReLU between its layers, concatenated with c; all styles in ws are equal.

    In training mode the running mean `w_avg` [S - D] of the mapped z is updated by each batch. Truncation interpolates
    the mapped z towards it and leaves c unchanged: psi 0 gives the mean image of each prompt or class.

    Args:
        z_dim: Features of z.
        style_dim: Features S of a style: S - D of the mapped z and D of c.
        num_styles: Number of styles in ws.
        cond_dim: Features D of c; 0 for none.
        num_layers: Number of linear layers.
        layer_dim: Features between the linear layers; null for `z_dim`.
        lr_multiplier: Learning-rate multiplier of the linear layers.
        w_avg_beta: Decay of the running mean `w_avg` per step.
        normalize_z: Whether z is scaled to unit mean square first.
        normalize_c: Whether c is scaled to unit mean square in the styles, so that it weighs as much as the mapped z
            from the start; StyleGAN-T appends the text embedding of norm 1 as it is.

    Raises:
        IncompatibleError: `style_dim` is not larger than `cond_dim`.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {}},
        {"spec": {"num_layers": 3, "layer_dim": 10, "normalize_z": False}},
        {"spec": {"normalize_c": True}},
    )
    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        style_dim: int,
        num_styles: int,
        cond_dim: int = 0,
        *,
        num_layers: Count = 2,
        layer_dim: PositiveInt | None = None,
        lr_multiplier: PositiveFloat = 0.01,
        w_avg_beta: Annotated[float, Field(ge=0, lt=1)] = 0.995,
        normalize_z: bool = True,
        normalize_c: bool = False,
    ) -> None:
        super().__init__()
        if style_dim <= cond_dim:
            fact = f"styles of {style_dim} features cannot hold a condition of {cond_dim} and a mapped z"
            raise incompatible((), f"{fact}; set the generator's w_dim to {z_dim + cond_dim}")
        self.z_dim, self.num_styles, self.cond_dim = z_dim, num_styles, cond_dim
        self.w_avg_beta, self.normalize_z, self.normalize_c = w_avg_beta, normalize_z, normalize_c
        widths = [z_dim, *[layer_dim or z_dim] * (num_layers - 1), style_dim - cond_dim]
        self.layers = nn.Sequential(
            *(EqualLinear(i, o, lr_multiplier=lr_multiplier, activation="lrelu") for i, o in pairwise(widths[:-1])),
            EqualLinear(*widths[-2:], lr_multiplier=lr_multiplier),
        )
        self.register_buffer("w_avg", torch.zeros(widths[-1]))

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
            truncation_psi: 1 leaves the mapped z unchanged, 0 replaces it by the running mean.
            truncation_cutoff: Number of styles, from the first, that are truncated; None for all.
            update_w_avg: Whether `w_avg` is updated in training mode; False for the second latent of style mixing.

        Raises:
            ValueError: `z` or `c` has another shape, `c` is missing, or there is no `cond_dim` for it.
        """
        check_vectors(self, "z", z, self.z_dim)
        check_condition(self, c, self.cond_dim, z)
        x = F.rms_norm(z, z.shape[1:], eps=1e-8) if self.normalize_z else z
        with no_autocast(z):
            w: Tensor = self.layers(x.to(self.w_avg.dtype))
        if self.training and update_w_avg:
            update_mean(self.w_avg, w, self.w_avg_beta)
        ws = truncate(w[:, None].expand(-1, self.num_styles, -1), self.w_avg, truncation_psi, truncation_cutoff)
        if c is None:
            return ws
        c = F.rms_norm(c, c.shape[1:], eps=1e-8) if self.normalize_c else c
        return torch.cat([ws, c[:, None].to(ws.dtype).expand(-1, self.num_styles, -1)], dim=2)

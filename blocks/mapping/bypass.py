"""A mapping network that the condition bypasses, so that the mean of the styles is known for every condition.

StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section 3.1 (text conditioning) and 3.3 (explicit
truncation): only z is mapped, and a style is the mapped z beside the condition as it came.
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
from blocks.families import Mapping
from blocks.mapping.truncation import follow, truncate
from registry import incompatible


class BypassMapping(Mapping, kind="bypass-mapping"):
    """Linear maps from z, all but the last with leaky ReLU, and c itself appended: every place of ws is the same.

    In training mode the tracked mean `w_avg` [S - D] of the mapped z follows the mean of each batch. Truncation draws
    the mapped z towards it and leaves the condition alone: psi 0 is the mean image of each prompt or class.

    Args:
        z_dim: Features of z.
        style_dim: Features S of a style: those of the mapped z, and the D of c.
        num_styles: Styles in ws.
        cond_dim: Features D of c; 0 for none.
        num_layers: Linear maps.
        layer_dim: Features between the linear maps; z_dim if None.
        lr_multiplier: By how much slower than the rest these layers learn.
        w_avg_beta: Share of `w_avg` that stays at each step.
        normalize_z: Whether z is brought to unit mean square first.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {}},
        {"spec": {"num_layers": 3, "layer_dim": 10, "normalize_z": False}},
    )
    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        style_dim: int,
        num_styles: int,
        cond_dim: int = 0,
        *,
        num_layers: PositiveInt = 2,
        layer_dim: PositiveInt | None = None,
        lr_multiplier: PositiveFloat = 0.01,
        w_avg_beta: Annotated[float, Field(ge=0, lt=1)] = 0.995,
        normalize_z: bool = True,
    ) -> None:
        super().__init__()
        if style_dim <= cond_dim:
            fact = f"styles of {style_dim} features have no room beside a condition of {cond_dim}"
            raise incompatible((), f"{fact}; give the generator w_dim: {z_dim + cond_dim}")
        self.num_styles, self.cond_dim = num_styles, cond_dim
        self.w_avg_beta, self.normalize_z = w_avg_beta, normalize_z
        widths = [z_dim, *[layer_dim or z_dim] * (num_layers - 1), style_dim - cond_dim]
        bends = ["lrelu"] * (num_layers - 1) + ["linear"]
        self.layers = nn.Sequential(
            *(
                EqualLinear(i, o, lr_multiplier=lr_multiplier, activation=bend)  # type: ignore[arg-type]
                for (i, o), bend in zip(pairwise(widths), bends, strict=True)
            )
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
            c: Conditions, where the mapping has a `cond_dim`.
            truncation_psi: 1 leaves the mapped z as it is, 0 makes all of it the tracked mean.
            truncation_cutoff: How many styles, from the first, are truncated; None for all.
            update_w_avg: Whether training moves `w_avg`; False for the second latent of style mixing.
        """
        if (c is None) != (self.cond_dim == 0):
            wanted = f"for conditions of {self.cond_dim} features" if self.cond_dim else "without a condition"
            raise ValueError(f"this mapping was made {wanted}: {'give c' if self.cond_dim else 'it takes no c'}")
        x = F.rms_norm(z, z.shape[1:], eps=1e-8) if self.normalize_z else z
        with no_autocast(z):
            w: Tensor = self.layers(x.to(self.w_avg.dtype))
        if self.training and update_w_avg:
            follow(self.w_avg, w, self.w_avg_beta)
        ws = truncate(w[:, None].expand(-1, self.num_styles, -1), self.w_avg, truncation_psi, truncation_cutoff)
        return ws if c is None else torch.cat([ws, c[:, None].to(ws.dtype).expand(-1, self.num_styles, -1)], dim=2)

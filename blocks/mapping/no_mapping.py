"""No mapping network: the style is the latent itself, followed by an embedding of the condition.

R3GAN, Huang et al. 2024, https://arxiv.org/abs/2501.05441, section 3.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.common.shapes import check_condition, check_vectors
from blocks.families import Mapping
from blocks.mapping.truncation import truncate
from registry import incompatible


class NoMapping(Mapping, kind="no-mapping"):
    """z, without a condition; [z; E c] with one, E a linear map without bias. All styles in ws are equal.

    The mean of z is 0, so that truncation scales z; R3GAN has no truncation.

    Args:
        z_dim: Features of z.
        style_dim: Features S of a style: those of z and of the embedding together.
        num_styles: Number of styles in ws.
        cond_dim: Features D of c; 0 for none.
        embed_dim: Features of the embedding of c.

    Raises:
        IncompatibleError: `style_dim` is not the number of these features.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {}, "context": {"style_dim": 8}},
        {"spec": {"embed_dim": 4}, "context": {"cond_dim": 5}},
    )

    def __init__(
        self, z_dim: int, style_dim: int, num_styles: int, cond_dim: int = 0, *, embed_dim: PositiveInt = 64
    ) -> None:
        super().__init__()
        expected = z_dim + (embed_dim if cond_dim else 0)
        if style_dim != expected:
            parts = f"z has {z_dim}, and the embedding of the condition {embed_dim if cond_dim else 0}"
            raise incompatible((), f"styles have {style_dim} features, but {parts}; set w_dim to {expected}")
        self.z_dim, self.num_styles, self.cond_dim = z_dim, num_styles, cond_dim
        self.embed: nn.Linear | None = None
        if cond_dim:
            self.embed = nn.Linear(cond_dim, embed_dim, bias=False)
            nn.init.normal_(self.embed.weight, std=1 / math.sqrt(cond_dim))

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
            truncation_psi: Factor of z; 1 leaves it unchanged.
            truncation_cutoff: Number of styles, from the first, that are truncated; None for all.
            update_w_avg: Without effect: there is no running mean.

        Raises:
            ValueError: `z` or `c` has another shape, `c` is missing, or there is no `cond_dim` for it.
        """
        check_vectors(self, "z", z, self.z_dim)
        check_condition(self, c, self.cond_dim, z)
        ws = z[:, None].expand(-1, self.num_styles, -1)
        ws = truncate(ws, z.new_zeros(self.z_dim), truncation_psi, truncation_cutoff)
        if self.embed is None:
            return ws
        return torch.cat([ws, self.embed(c)[:, None].to(ws.dtype).expand(-1, self.num_styles, -1)], dim=2)

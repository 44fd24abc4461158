"""GAT's mapping network: a latent and a class become a style, with a mean style for each class.

GAT, https://arxiv.org/abs/2509.24935; truncation towards the mean of a class: Self-Distilled StyleGAN,
Mokady et al. 2022, https://arxiv.org/abs/2202.12211, section 4.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.linear import SlowLinear
from blocks.common.recompute import is_recomputing
from blocks.common.shapes import check_condition, check_vectors
from blocks.families import Mapping
from blocks.mapping.truncation import truncate

EPS = 1e-8


class ClassMapping(Mapping, kind="class-mapping"):
    """L2 silu(L1 [unit(E c); unit(z)]); unit scales to root mean square 1. All styles in ws are equal.

    E is a linear map without bias, L1 and L2 are linear layers that learn slowly. In training mode the mean style of
    each class in a batch moves towards the styles of that class. Truncation interpolates towards it.

    Args:
        z_dim: Features of z.
        style_dim: Features S of a style.
        num_styles: Number of styles in ws.
        cond_dim: Number of classes D of c, which is one-hot; 0 for none.
        embed_dim: Features of the embedding of c; null for `z_dim`.
        lr_multiplier: Factor of the weights of L1 and L2.
        w_avg_beta: Decay of the mean styles `w_avg` [D,S] per step.
    """

    examples: ClassVar[tuple[Any, ...]] = ({"spec": {}}, {"spec": {"embed_dim": 5, "lr_multiplier": 0.1}})
    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        style_dim: int,
        num_styles: int,
        cond_dim: int = 0,
        *,
        embed_dim: PositiveInt | None = None,
        lr_multiplier: PositiveFloat = 0.01,
        w_avg_beta: Annotated[float, Field(ge=0, lt=1)] = 0.995,
    ) -> None:
        super().__init__()
        self.z_dim, self.num_styles, self.cond_dim, self.w_avg_beta = z_dim, num_styles, cond_dim, w_avg_beta
        embed_dim = (embed_dim or z_dim) if cond_dim else 0
        self.embed: nn.Linear | None = None
        if cond_dim:
            self.embed = nn.Linear(cond_dim, embed_dim, bias=False)
            nn.init.normal_(self.embed.weight, std=0.02)
        self.layer1 = SlowLinear(z_dim + embed_dim, style_dim, lr_multiplier=lr_multiplier)
        self.layer2 = SlowLinear(style_dim, style_dim, lr_multiplier=lr_multiplier)
        self.register_buffer("w_avg", torch.zeros(max(cond_dim, 1), style_dim))

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
            truncation_psi: 1 leaves the styles unchanged, 0 replaces them by the mean style of their class. GAT's code
                counts the other way round.
            truncation_cutoff: Number of styles, from the first, that are truncated; None for all.
            update_w_avg: Whether `w_avg` is updated in training mode.

        Raises:
            ValueError: `z` or `c` has another shape, `c` is missing, or there is no `cond_dim` for it.
        """
        check_vectors(self, "z", z, self.z_dim)
        check_condition(self, c, self.cond_dim, z)
        embedded = [] if self.embed is None else [unit(self.embed(c), dim=1)]
        w = self.styles(torch.cat([*embedded, unit(z, dim=1)], dim=1))
        classes = z.new_ones(z.shape[0], 1) if c is None else c
        ws = w[:, None].expand(-1, self.num_styles, -1)
        ws = truncate(ws, (classes @ self.w_avg.to(classes.dtype))[:, None], truncation_psi, truncation_cutoff)
        if self.training and update_w_avg:
            self.update(ws[:, 0], classes)
        return ws

    def styles(self, inputs: Float[Tensor, "... i"]) -> Float[Tensor, "... s"]:
        """The styles of normalised embeddings and latents."""
        w: Tensor = self.layer2(F.silu(self.layer1(inputs)))
        return w

    @torch.no_grad()
    def update(self, w: Float[Tensor, "b s"], classes: Float[Tensor, "b d"]) -> None:
        """Move the mean style of each class in the batch; a pass that is recomputed moves none."""
        if is_recomputing():
            return
        counts = classes.sum(dim=0)[:, None].to(self.w_avg.dtype)
        means = (classes.mT @ w).to(self.w_avg.dtype) / counts.clamp(min=1)
        self.w_avg.copy_(torch.where(counts > 0, self.w_avg.lerp(means, 1 - self.w_avg_beta), self.w_avg))

    def guided(
        self, ws: Float[Tensor, "b n s"], z: Float[Tensor, "b z"], scale: float | Float[Tensor, " b"]
    ) -> Float[Tensor, "b n s"]:
        """Styles moved away from the mean over all classes: n + scale (w - n); n has no gradient.

        As in GAT's code, n is the mean of styles whose inputs are normalised over the classes instead of the features.
        """
        assert self.embed is not None, "guidance needs classes"
        with torch.no_grad():
            embeddings = unit(self.embed.weight.mT, dim=0).expand(len(z), -1, -1)  # b classes features
            latents = unit(z[:, None], dim=1).expand(-1, embeddings.shape[1], -1)
            neutral = self.styles(torch.cat([embeddings, latents], dim=2)).mean(dim=1)[:, None]
        factor = torch.as_tensor(scale, dtype=ws.dtype, device=ws.device).view(-1, 1, 1)
        return neutral + factor * (ws - neutral)


def unit(x: Float[Tensor, ...], dim: int) -> Float[Tensor, ...]:
    """x / sqrt(mean(x^2) + 1e-8), the mean over `dim`."""
    return x * torch.rsqrt(x.square().mean(dim, keepdim=True) + EPS)

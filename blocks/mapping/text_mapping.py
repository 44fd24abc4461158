"""The mapping of a text-conditional generator whose layers attend to the tokens of the caption.

GigaGAN, Kang et al. 2023, https://arxiv.org/abs/2303.05511, section 3.2: learned attention layers T follow the frozen
text encoder, and the styles depend on the caption's embedding. Here that is the encoder's own.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from blocks.common.equalized import EqualLinear
from blocks.common.shapes import check_condition
from blocks.condition.tokens import caption_embedding, token_embeddings, token_mask
from blocks.families import Mapping
from blocks.layer.text.cross_attention import CrossAttention
from registry import Slot, incompatible


class TextMapping(Mapping, kind="text-mapping"):
    """ws is the styles of z and the caption's embedding, then the caption's tokens.

    The tokens are mapped to S features, then attend to each other in `num_layers` layers. Truncation and style mixing
    leave them as they are.

    Args:
        z_dim: Features of z.
        style_dim: Features S of a style, and of a token.
        num_styles: Number of vectors in ws, tokens included.
        cond_dim: Features of the condition c.
        num_tokens: Number of its tokens.
        styles: Maps z and the caption's embedding to styles.
        num_layers: Number of attention layers of the tokens.
        num_heads: Heads of these layers.

    Raises:
        IncompatibleError: The condition has no tokens.
    """

    takes_tokens = True
    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"num_heads": 2}, "context": {"cond_dim": 15, "num_tokens": 2}},
        {"spec": {"styles": "bypass-mapping", "num_layers": 0}, "context": {"cond_dim": 15, "num_tokens": 2}},
    )

    def __init__(
        self,
        z_dim: int,
        style_dim: int,
        num_styles: int,
        cond_dim: int = 0,
        num_tokens: int = 0,
        *,
        styles: Slot[Mapping] = "mapping",
        num_layers: NonNegativeInt = 1,
        num_heads: PositiveInt = 4,
    ) -> None:
        super().__init__()
        if not num_tokens:
            fact = "the condition has no tokens"
            raise incompatible((), f"{fact}; set tokens: true in a condition open-clip-text, or take another mapping")
        self.cond_dim, self.num_tokens = cond_dim, num_tokens
        embed_dim = cond_dim // (1 + num_tokens)
        context = {"z_dim": z_dim, "style_dim": style_dim, "cond_dim": embed_dim}
        self.styles: Mapping = self.fill("styles", styles, num_styles=num_styles - num_tokens, **context)
        self.embed = EqualLinear(embed_dim, style_dim)
        self.layers = nn.ModuleList(
            CrossAttention(style_dim, style_dim, num_heads=num_heads) for _ in range(num_layers)
        )

    def forward(
        self,
        z: Float[Tensor, "b z"],
        c: Float[Tensor, "b d"] | None = None,
        *,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        update_w_avg: bool = True,
    ) -> Float[Tensor, "b n s"]:
        """ws of z and c; the options are those of the mapping in `styles`."""
        check_condition(self, c, self.cond_dim, z)
        assert c is not None
        truncation = {"truncation_psi": truncation_psi, "truncation_cutoff": truncation_cutoff}
        styles = self.styles(z, caption_embedding(c, self.num_tokens), update_w_avg=update_w_avg, **truncation)
        return torch.cat([styles, self.tokens(token_embeddings(c, self.num_tokens)).to(styles.dtype)], dim=1)

    def tokens(self, embeddings: Float[Tensor, "b n e"]) -> Float[Tensor, "b n s"]:
        """The tokens that layers attend to; those after the end of a caption stay zero vectors."""
        mask = token_mask(embeddings)[:, :, None]
        tokens: Tensor = self.embed(embeddings) * mask
        for layer in self.layers:
            tokens = layer(tokens.mT[:, :, None], tokens)[:, :, 0].mT * mask
        return tokens

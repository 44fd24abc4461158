"""Conditions with tokens: c [B,(1+n)E] is the embedding of a caption, E features, then those of its n tokens.

Tokens after the end of a caption are zero vectors, which attention masks. GigaGAN, Kang et al. 2023,
https://arxiv.org/abs/2303.05511, section 3.2, calls the two parts t_global and t_local.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor


def caption_embedding(c: Float[Tensor, "b d"], num_tokens: int) -> Float[Tensor, "b e"]:
    """The first part of a condition; the whole condition if it has no tokens."""
    if c.ndim != 2:
        raise ValueError(f"c should have shape [B, D], not {list(c.shape)}")
    return c[:, : c.shape[1] // (1 + num_tokens)] if num_tokens else c


def token_embeddings(c: Float[Tensor, "b d"], num_tokens: int) -> Float[Tensor, "b n e"]:
    """The second part of a condition."""
    return c.view(c.shape[0], 1 + num_tokens, c.shape[1] // (1 + num_tokens))[:, 1:]


def token_mask(tokens: Float[Tensor, "b n e"]) -> Bool[Tensor, "b n"]:
    """Which tokens belong to the caption."""
    return (tokens != 0).any(dim=2)

"""L2 attention: softmax over (squared) distances between queries and keys instead of their products.

Kim et al. 2021, https://arxiv.org/abs/2006.04710, section 3.3; in discriminators: ViTGAN, Lee et al. 2022,
https://arxiv.org/abs/2107.04589, section 3.2.

The squared distance is |q|^2 - 2 q.k + |k|^2. The first term is the same for all keys and cancels in the softmax. What
remains is dot-product attention with a bias per key, so the fused kernels of `attention` can compute it.
"""

from __future__ import annotations

from blocks.ops.l2_attention.augmented import FEWEST_KEYS, Augmented
from blocks.ops.l2_attention.biased import Biased
from blocks.ops.l2_attention.reference import Reference, Sign
from registry import Op

__all__ = ["FEWEST_KEYS", "Sign", "l2_attention"]

l2_attention = Op("l2_attention", Reference(), Biased(), Augmented())
"""Call: (q, k, v, *, squared=True, sign=-1, scale=None, key_norms=None), shapes as in `attention`.

softmax(sign * scale * |q - k|^2) v, or |q - k| if not `squared`; `scale` defaults to d ** -0.5. Kim et al. prove the
Lipschitz bound for sign -1; ViTGAN prints +1. `key_norms` [B,heads,M] replaces |k|^2: ViTGAN's published code uses the
mean of q^2 over its channels.
"""

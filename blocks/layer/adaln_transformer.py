"""GAT's generator block: a transformer layer whose branches are scaled and gated by the style.

GAT, https://arxiv.org/abs/2509.24935; adaLN: DiT, Peebles and Xie 2022, https://arxiv.org/abs/2212.09748, section 3.2.
"""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.linear import linear
from blocks.common.shapes import check_nchw, check_styles
from blocks.families import Attention, FeedForward, Layer, Norm, Resolution, to_nchw, to_nhwc
from registry import Slot


class AdaLNTransformer(Layer, kind="adaln-transformer"):
    """x + g1 attention(norm(x) (1 + s1)), then x + g2 feed_forward(norm(x) (1 + s2)); (s1,g1,s2,g2) = A silu(w).

    The gates g multiply directly, and there is no shift.

    Args:
        dim: Channels C of the map.
        resolution: Height and width of the map, in pixels.
        style_dim: Features S of the style.
        attention: The attention block.
        norm: The norm of both branches; it has no style and, as the branches are scaled, should have no gain.
        feed_forward: The feed-forward block.
        modulation_gain: Factor of the uniform initial weights of A.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"attention": {"num_heads": 4, "kind": "dense", "qk_norm": True, "rotary": True}}},
        {"spec": {"norm": "pixel-norm", "feed_forward": "mlp", "modulation_gain": 1.0}},
    )
    num_styles = 1

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        style_dim: int,
        *,
        attention: Slot[Attention] = "dense",
        norm: Slot[Norm] = {"kind": "rms-norm", "affine": False},  # noqa: B006 (a spec after validation)
        feed_forward: Slot[FeedForward] = "swiglu",
        modulation_gain: PositiveFloat = 0.1,
    ) -> None:
        super().__init__()
        context = {"dim": dim, "resolution": resolution}
        self.dim, self.style_dim = dim, style_dim
        self.norm1, self.norm2 = (self.fill("norm", norm, **context) for _ in range(2))
        self.attn = self.fill("attention", attention, **context)
        self.mlp = self.fill("feed_forward", feed_forward, **context)
        self.modulation: nn.Module = linear(style_dim, 4 * dim, init="xavier-uniform", gain=modulation_gain)

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        check_nchw(self, x, self.dim)
        w = check_styles(self, ws, 1, self.style_dim, x)[:, 0]
        scale1, gate1, scale2, gate2 = self.modulation(F.silu(w))[:, None, None].chunk(4, dim=-1)
        x = to_nhwc(x)
        x = x + gate1 * self.attn(self.norm1(x) * (1 + scale1))
        x = x + gate2 * self.mlp(self.norm2(x) * (1 + scale2))
        return to_nchw(x)

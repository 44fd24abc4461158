"""Fixed random convolutions that mix the features of a frozen network, so that its heads cannot ignore most of them.

Projected GANs, Sauer et al. 2021, https://arxiv.org/abs/2111.01007, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class FeatureMixing(nn.Module):
    """Maps [B,C_i,H_i,W_i] of several depths -> maps of the same shapes.

    Cross-channel mixing is a 1x1 convolution of each map. Cross-scale mixing then adds the mixed map of the next depth,
    after a 3x3 convolution and bilinear resizing, from the last depth to the first. Weights are drawn once by Kaiming's
    rule, saved, and not trained.

    Args:
        dims: Channels of the maps, in the order of their depths.
        across_scales: Whether cross-scale mixing follows cross-channel mixing.
    """

    def __init__(self, dims: Sequence[int], *, across_scales: bool) -> None:
        super().__init__()
        self.channels = nn.ModuleList(nn.Conv2d(dim, dim, 1, bias=False) for dim in dims)
        pairs = zip(dims[1:], dims, strict=False) if across_scales else ()
        self.scales = nn.ModuleList(nn.Conv2d(deeper, dim, 3, padding=1, bias=False) for deeper, dim in pairs)
        for convolution in (*self.channels, *self.scales):
            nn.init.kaiming_normal_(convolution.weight)
        self.requires_grad_(False)

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> list[Float[Tensor, "b _ _ _"]]:
        mixed: list[Tensor] = [mix(each) for mix, each in zip(self.channels, maps, strict=True)]
        for depth in reversed(range(len(self.scales))):
            deeper = self.scales[depth](mixed[depth + 1])
            size = mixed[depth].shape[2:]
            mixed[depth] = mixed[depth] + F.interpolate(deeper, size=size, mode="bilinear", align_corners=False)
        return mixed

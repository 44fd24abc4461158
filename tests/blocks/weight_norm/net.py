"""A network with one of each layer that has a weight to normalise."""

from __future__ import annotations

from torch import Tensor, nn

from blocks.common.equalized import EqualConv2d, EqualLinear


class Net(nn.Module):
    """All kinds of normalised layers, and a LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = EqualConv2d(3, 6, 3, activation="lrelu")
        self.plain = nn.Conv2d(6, 4, 1)
        self.norm = nn.LayerNorm(4)
        self.row = nn.Conv1d(4, 4, 3, padding=1)
        self.hidden = EqualLinear(4, 8, activation="lrelu")
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.plain(self.conv(x)).flatten(2).mT)
        return self.out(self.hidden(self.row(y.mT).mT)).mean(dim=1)

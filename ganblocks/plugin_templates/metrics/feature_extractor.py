"""Example feature extractor: mean colours of a grid of cells.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

from jaxtyping import Float, Shaped
from pydantic import PositiveInt
from torch import Tensor
from torch.nn import functional as F

from blocks.families import FeatureExtractor


class Example(FeatureExtractor, kind="example"):
    """The mean colour of each cell of a grid: images [B,3,H,W] of values 0 to 255 -> features [B,3*n*n].

    Args:
        num_cells: Number n of rows and columns of the grid.
    """

    resize_filter = "box"

    def __init__(self, *, num_cells: PositiveInt = 4) -> None:
        super().__init__()
        self.num_cells = num_cells

    def forward(self, images: Shaped[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        images = images if images.is_floating_point() else images.float()
        return F.adaptive_avg_pool2d(images, self.num_cells).flatten(1)

    def source(self) -> dict[str, str]:
        return {"weights": "none"}

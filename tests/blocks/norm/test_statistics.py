"""Statistics of norms in half precision."""

from __future__ import annotations

import pytest
import torch

from blocks.norm.adain import AdaIN
from blocks.norm.pixel_norm import PixelNorm


@pytest.mark.parametrize("norm", [AdaIN(8, 6), PixelNorm()], ids=["adain", "pixel-norm"])
def test_statistics_are_computed_in_float32_for_half_precision_inputs(norm):
    generator = torch.Generator().manual_seed(0)
    x = 300 + 100 * torch.randn(2, 9, 9, 8, generator=generator)  # squares exceed float16
    w = torch.randn(2, 6, generator=generator)
    half = norm.half()(x.half(), w.half())
    torch.testing.assert_close(half.float(), norm.float()(x.half().float(), w.half().float()), rtol=1e-2, atol=1e-2)

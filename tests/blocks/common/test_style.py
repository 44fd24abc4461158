"""Second-order styles."""

from __future__ import annotations

import torch

from blocks.common.style import StylePolynomial


def test_second_order_styles_are_s1_s2_plus_s3() -> None:
    block, w = StylePolynomial(5, 4), torch.randn(3, 5)
    first, second, third = block.proj(w).split(4, dim=1)
    torch.testing.assert_close(block(w), first * second + third)
    torch.testing.assert_close(block(torch.zeros(1, 5)), torch.full((1, 4), 2.0))

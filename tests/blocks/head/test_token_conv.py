"""StyleGAN-T's token convolution head."""

from __future__ import annotations

import pytest
import torch

from blocks.head.token_conv import TokenConvHead
from registry import IncompatibleError


def test_convolutions_are_circular() -> None:
    head = TokenConvHead(4, (1, 12), kernel_size=5, norm={"kind": "group-norm", "num_groups": 1}, weight_norm=None)
    x = torch.randn(2, 4, 1, 12)
    torch.testing.assert_close(head(x.roll(3, dims=3)), head(x).roll(3, dims=1))
    torch.testing.assert_close(head(x.view(2, 4, 3, 4)), head(x))
    with pytest.raises(IncompatibleError, match="padding of 4 needs at least as many tokens, and there are 3; take 7"):
        TokenConvHead(4, (1, 3))


def test_weight_norm_applies_to_the_convolutions_only() -> None:
    head = TokenConvHead(4, (1, 12), 3)
    raw = {name for name in head.state_dict() if name.endswith("original")}
    assert raw == {f"{conv}.parametrizations.weight.original" for conv in ("conv1", "conv2", "out")}

"""The ContraD head."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from blocks.head.contrad import ContraDHead


def test_projections_are_frozen_and_do_not_change_the_logit():
    head, x = ContraDHead(4, (2, 2), hidden_dim=6, projection_hidden_dim=5, projection_dim=3), torch.randn(2, 4, 2, 2)
    frozen = {name for name, parameter in head.named_parameters() if not parameter.requires_grad}
    assert frozen == {f"project{i}.{layer}.{part}" for i in (1, 2) for layer in (0, 2) for part in ("weight", "bias")}
    first, second = head.projections(x)
    assert first.shape == second.shape == (2, 3)
    hidden = F.leaky_relu(head.project1[0](x.flatten(1)), 0.1)
    torch.testing.assert_close(first, head.project1[2](hidden))
    torch.testing.assert_close(head(x), head.out(head.hidden(x.flatten(1))))

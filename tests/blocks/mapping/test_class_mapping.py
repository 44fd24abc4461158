"""The mean style of each class, and truncation towards it."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from blocks.mapping.class_mapping import ClassMapping

LABELS = torch.tensor([0, 2, 2, 0, 2])


def network() -> tuple[ClassMapping, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return ClassMapping(6, 8, 3, 4), torch.randn(5, 6), F.one_hot(LABELS, 4).float()


def test_only_the_means_of_classes_in_the_batch_move() -> None:
    mapping, z, c = network()
    ws = mapping(z, c)
    assert ws.shape == (5, 3, 8)
    for label in (0, 2):
        torch.testing.assert_close(mapping.w_avg[label], 0.005 * ws[label == LABELS, 0].mean(dim=0))
    assert not mapping.w_avg[[1, 3]].any()


def test_truncation_ends_at_the_mean_of_the_class() -> None:
    mapping, z, c = network()
    mapping.w_avg.normal_()
    torch.testing.assert_close(mapping.eval()(z, c, truncation_psi=0.0)[:, 1], mapping.w_avg[LABELS])
    half = mapping(z, c, truncation_psi=0.5, truncation_cutoff=1)
    full = mapping(z, c)
    torch.testing.assert_close(half[:, 0], (full[:, 0] + mapping.w_avg[LABELS]) / 2)
    torch.testing.assert_close(half[:, 1:], full[:, 1:])


def test_guidance_of_1_changes_nothing() -> None:
    mapping, z, c = network()
    ws = mapping.eval()(z, c)
    torch.testing.assert_close(mapping.guided(ws, z, 1.0), ws)
    stronger = mapping.guided(ws, z, torch.tensor([1.0, 2.0, 2.0, 2.0, 2.0]))
    torch.testing.assert_close(stronger[0], ws[0])
    assert (stronger[1:] - ws[1:]).abs().max() > 1e-3

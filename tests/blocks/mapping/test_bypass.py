"""The bypass mapping: conditions, truncation, the running mean and errors."""

from __future__ import annotations

import pytest
import torch

from blocks.mapping.bypass import BypassMapping
from registry import IncompatibleError


def test_the_condition_is_appended_unchanged() -> None:
    mapping = BypassMapping(6, 9, 4, 3)
    z, c = torch.randn(2, 6), torch.randn(2, 3)
    ws = mapping.eval()(z, c)
    assert ws.shape == (2, 4, 9)
    assert torch.equal(ws[:, :, 6:], c[:, None].expand(-1, 4, -1))
    assert torch.equal(ws[:, :, :6], BypassMapping.forward(mapping, z, c * 0)[:, :, :6])


def test_a_normalized_condition_has_unit_mean_square_in_the_styles() -> None:
    mapping = BypassMapping(6, 9, 4, 3, normalize_c=True).eval()
    c = torch.tensor([[3.0, 0.0, 4.0], [0.0, 0.1, 0.0]])
    expected = c / torch.tensor([[5.0], [0.1]]) * 3**0.5
    torch.testing.assert_close(mapping(torch.randn(2, 6), c)[:, 0, 6:], expected)


def test_truncation_interpolates_towards_the_mean_of_each_condition() -> None:
    mapping = BypassMapping(6, 9, 4, 3).eval()
    mapping.w_avg.normal_()
    z, c = torch.randn(2, 6), torch.randn(2, 3)
    full, mean = mapping(z, c), torch.cat([mapping.w_avg.expand(2, -1), c], dim=1)[:, None]
    torch.testing.assert_close(mapping(z, c, truncation_psi=0.0), mean.expand(-1, 4, -1))
    torch.testing.assert_close(mapping(z, c, truncation_psi=0.7), mean + 0.7 * (full - mean))
    partial = mapping(z, c, truncation_psi=0.7, truncation_cutoff=1)
    torch.testing.assert_close(partial[:, :1], (mean + 0.7 * (full - mean))[:, :1])
    assert torch.equal(partial[:, 1:], full[:, 1:])


def test_the_running_mean_is_updated_in_training_unless_disabled() -> None:
    mapping = BypassMapping(6, 6, 1, w_avg_beta=0.9)
    z = torch.randn(8, 6)
    w = mapping(z, update_w_avg=False)[:, 0]
    assert not mapping.w_avg.any()
    mapping(z)
    torch.testing.assert_close(mapping.w_avg, 0.1 * w.mean(0).detach())


def test_errors_name_the_cure() -> None:
    with pytest.raises(IncompatibleError, match="cannot hold a condition of 6 and a mapped z"):
        BypassMapping(5, 6, 4, 6)
    with pytest.raises(ValueError, match="bypass-mapping: c is missing"):
        BypassMapping(6, 9, 4, 3)(torch.randn(2, 6))
    with pytest.raises(ValueError, match="bypass-mapping: built without a condition"):
        BypassMapping(6, 9, 4)(torch.randn(2, 6), torch.randn(2, 3))

"""Minibatch standard deviation against a loop over groups."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blocks.layer.minibatch_std import MinibatchStd
from registry import IncompatibleError


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 6, 8, 12])
@pytest.mark.parametrize(("group_size", "num_channels"), [(4, 1), (4, 3), (2, 2), (None, 1), (32, 6)])
def test_groups_are_strided_over_the_batch(batch: int, group_size: int | None, num_channels: int) -> None:
    x, part = normal(batch, 6, 3, 5), 6 // num_channels
    size = max(size for size in range(1, batch + 1) if batch % size == 0 and size <= (group_size or batch))
    appended = torch.empty(batch, num_channels, 3, 5, dtype=torch.float64)
    for sample in range(batch):
        group = [other for other in range(batch) if other % (batch // size) == sample % (batch // size)]
        assert len(group) == size
        for channel in range(num_channels):
            values = torch.stack([x[other, channel * part : (channel + 1) * part] for other in group])
            deviation = ((values - values.mean(dim=0)).square().mean(dim=0) + 1e-8).sqrt()
            appended[sample, channel] = deviation.mean()
    y = MinibatchStd(6, group_size=group_size, num_channels=num_channels)(x)
    torch.testing.assert_close(y, torch.cat([x, appended], dim=1), rtol=1e-12, atol=1e-12)


def test_the_gradient_for_equal_images_is_finite() -> None:
    x = normal(1, 4, 3, 3).expand(4, -1, -1, -1).clone().requires_grad_()
    y = MinibatchStd(4)(x)
    torch.testing.assert_close(y[:, 4:], torch.full((4, 1, 3, 3), 1e-4, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_channels_have_to_divide_into_the_parts() -> None:
    with pytest.raises(IncompatibleError, match="16 channels do not split evenly into 3 parts"):
        MinibatchStd(16, num_channels=3)


def test_an_empty_batch_has_the_appended_channels() -> None:
    assert MinibatchStd(6, num_channels=2)(torch.zeros(0, 6, 3, 5)).shape == (0, 8, 3, 5)

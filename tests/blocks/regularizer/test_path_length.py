"""Path length against gradients known in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from blocks.families import Batch, Networks
from blocks.regularizer.path_length import PathLength
from tests.blocks.regularizer.toys import Linear, images


class LinearGenerator(nn.Module):
    """The image is k_i times w_i, summed over the style vectors i."""

    def __init__(self) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
        self.mapped = 0

    def mapping(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        self.mapped += len(z)
        return (z if c is None else z + c)[:, None].expand(-1, 2, -1)

    def synthesis(self, ws: Tensor) -> Tensor:
        return (self.k[:, None] * ws).sum(dim=1).view(-1, 3, 4, 5)


def test_lengths_are_gradients_along_noise_per_root_of_the_pixels() -> None:
    generator, noise = LinearGenerator(), images(5)
    lengths = PathLength().lengths(generator.synthesis, generator.mapping(images(6).flatten(1)), noise)
    per_vector = noise.flatten(1).norm(dim=1) / 20**0.5  # times k; their mean square is 12.5
    torch.testing.assert_close(lengths, per_vector * 12.5**0.5)


def test_the_penalty_is_the_squared_distance_from_the_running_mean() -> None:
    penalty = PathLength(decay=0.1).double()
    lengths = torch.tensor([1.0, 3.0], dtype=torch.float64, requires_grad=True)
    penalties = penalty.penalties(lengths)
    torch.testing.assert_close(penalty.mean, torch.tensor(0.2, dtype=torch.float64))
    torch.testing.assert_close(penalties, torch.tensor([0.64, 7.84], dtype=torch.float64))
    (slope,) = torch.autograd.grad(penalties.mean(), lengths)
    torch.testing.assert_close(slope, torch.tensor([0.8 - 0.18, 2.8 - 0.18], dtype=torch.float64))  # the mean moves too
    penalty.penalties(lengths)
    torch.testing.assert_close(penalty.mean, torch.tensor(0.38, dtype=torch.float64))


@pytest.mark.parametrize(("shrink", "num_used"), [(1, 4), (2, 2), (3, 1), (9, 1)])
def test_batch_shrink_uses_the_first_part_of_the_batch(shrink: int, num_used: int) -> None:
    generator, z = LinearGenerator(), images(6).flatten(1)
    penalty = PathLength(batch_shrink=shrink, weight=3.0).double()
    batch = penalty.select(Batch(z=z, c=torch.zeros_like(z)))
    value = penalty(Networks(generator, Linear(), nn.Identity()), batch)
    assert generator.mapped == num_used
    assert torch.autograd.grad(value, generator.k)[0].abs().min() > 0


def test_non_finite_lengths_do_not_update_the_mean() -> None:
    penalty = PathLength()
    penalty.penalties(torch.tensor([5.0]))
    before = penalty.mean.clone()
    assert penalty.penalties(torch.tensor([float("nan")])).isnan().all()
    assert torch.equal(penalty.mean, before)
    assert penalty.state_dict().keys() == {"mean"}

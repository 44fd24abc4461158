"""Kernel distance, precision and recall of features, in float64.

Kernel distance: Binkowski et al. 2018, https://arxiv.org/abs/1801.01401, section 4, over all images, not subsets.
Precision and recall: Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991, section 2.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

NEIGHBORS = 3  # the paper's


def kernel_distance(first: Float[Tensor, "n f"], second: Float[Tensor, "m f"]) -> float:
    """The squared maximum mean discrepancy under the kernel (x y / f + 1)^3, without bias; it can be negative."""
    first, second = first.double(), second.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def mean_of_pairs(a: Tensor) -> Tensor:
        values = kernel(a, a)
        return (values.sum() - values.trace()) / (len(a) * (len(a) - 1))

    distance = mean_of_pairs(first) + mean_of_pairs(second) - 2 * kernel(first, second).mean()
    return distance.item()


def precision_and_recall(generated: Float[Tensor, "n f"], real: Float[Tensor, "m f"]) -> tuple[float, float]:
    """The share of generated images among the real ones, and of real images among the generated ones."""
    return share_within(generated, real), share_within(real, generated)


def share_within(points: Float[Tensor, "n f"], others: Float[Tensor, "m f"]) -> float:
    """The share of points within a ball around any of the others, which reaches to its k-th nearest neighbour."""
    points, others = points.double(), others.double()
    radii = torch.cdist(others, others).kthvalue(NEIGHBORS + 1).values  # the nearest is the point itself
    inside = (torch.cdist(points, others) <= radii).any(dim=1)
    return inside.double().mean().item()

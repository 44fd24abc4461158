"""The random numbers of StyleGAN2-ADA's augmentation: drawing them, or fixing them at a quantile.

Karras et al. 2020, https://arxiv.org/abs/2006.06676, appendix B.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.augment.ada.transforms import NEUTRAL, NUM_VALUES, UNIFORM
from blocks.common.computed_buffer import filled

Draws = Mapping[str, Tensor]
ALWAYS = -1.0  # a gate below every probability: the transform is always applied


def draw(image: Float[Tensor, "b k h w"], transforms: Collection[str]) -> dict[str, Tensor]:
    """All random numbers that a batch needs, [B] or [B,n] each, by name; see `ADA.draw`."""
    like: dict[str, Any] = {"device": image.device, "dtype": torch.promote_types(image.dtype, torch.float32)}
    batch = image.shape[0]
    draws = {}
    for name in transforms:
        shape = (batch, NUM_VALUES[name]) if name in NUM_VALUES else (batch,)
        sample = torch.rand if name in UNIFORM else torch.randn
        draws[f"{name}.value"] = sample(shape, **like)
        draws[f"{name}.gate"] = torch.rand(shape if name == "filter" else (batch,), **like)
        if name == "rotate":
            draws["rotate.second"], draws["rotate.second_gate"] = torch.rand(2, batch, **like)
        if name == "noise":
            draws["noise.pixels"] = torch.randn(image.shape, **like)
    return draws


def at_quantile(
    draws: dict[str, Tensor], q: float, transforms: Collection[str], bands: Sequence[float]
) -> dict[str, Tensor]:
    """The draws with all values but the pixels of noise replaced by their `q` quantile; see `ADA.quantile`."""
    normal = torch.erfinv(torch.tensor(2 * q - 1, dtype=torch.float64)).item()
    for name in transforms:
        draws[f"{name}.value"].fill_(q if name in UNIFORM else normal)
        draws[f"{name}.gate"].fill_(ALWAYS)
    if "rotate" in transforms:
        draws["rotate.second"].fill_(NEUTRAL["rotate"])
    if "filter" in transforms:  # bands of probability 0 are left unchanged
        draws["filter.gate"][:, [not factor for factor in bands]] = 1.0
    if "noise" in transforms:
        draws["noise.value"].fill_(torch.erfinv(torch.tensor(q, dtype=torch.float64)).item())
    return draws


def gated_values(
    draws: Draws, p: Float[Tensor, ""], factors: Mapping[str, float], bands: Sequence[float]
) -> dict[str, Tensor]:
    """The values of the transforms that apply to each image, neutral values where they do not.

    Args:
        draws: Random numbers of the batch.
        p: Probability of every transform.
        factors: Factor of `p` for each transform.
        bands: Factor of the probability of `filter` for each band.
    """
    values = {name: draws[name] for name in ("noise.pixels",) if name in draws}
    for name, factor in factors.items():
        probability: Tensor = factor * p
        if name == "rotate":  # two rotations, each with a probability such that at least one occurs with `probability`
            probability = 1 - (1 - probability).clamp(min=0).sqrt()
            second = draws["rotate.second_gate"] < probability
            values["rotate.second"] = torch.where(second, draws["rotate.second"], NEUTRAL["rotate"])
        if name == "filter":
            probability = probability * filled(bands, probability)
        applied, value = draws[f"{name}.gate"] < probability, draws[f"{name}.value"]
        applied = applied[:, None] if value.ndim > applied.ndim else applied
        values[name] = torch.where(applied, value, NEUTRAL.get(name, 0.0))
    return values

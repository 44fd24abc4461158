"""Randomness as a pure function of (seed, step, process): nothing of it needs saving for an exact resume.

Before each training step all generators (torch on every device, numpy, Python) are seeded anew, so what samples, plots
or another block drew in between never matters.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


@contextmanager
def own_randomness() -> Iterator[None]:
    """Gives the caller's generators back as they were."""
    python, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed everything for one step of one process; step -1 is the making of the networks."""
    drawn = int(np.random.SeedSequence([seed, step + 1, rank]).generate_state(1)[0])
    random.seed(drawn)
    np.random.seed(drawn)
    torch.manual_seed(drawn)


def latents(seeds: Sequence[int], z_dim: int) -> Float[Tensor, "n z"]:
    """The latent of each seed, the same on every machine and in every batch."""
    return torch.stack([torch.randn(z_dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds])

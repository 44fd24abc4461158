"""Random numbers as a function of seed, step and process, so that an exact resume saves no random state.

Before each training step all generators (torch on every device, numpy, Python) are seeded anew. Random numbers that
were drawn between steps, for sample images or plots, therefore never matter.
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
def fork_rng() -> Iterator[None]:
    """A context after which the random state of torch, numpy and Python is as it was before."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed all generators for one step of one process; step -1 is the initialisation of the networks."""
    drawn = int(np.random.SeedSequence([seed, step + 1, rank]).generate_state(1)[0])
    random.seed(drawn)
    np.random.seed(drawn)
    torch.manual_seed(drawn)


def latents(seeds: Sequence[int], z_dim: int) -> Float[Tensor, "n z"]:
    """One latent per seed; it does not depend on the machine or on the other seeds."""
    return torch.stack([torch.randn(z_dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds])

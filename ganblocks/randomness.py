"""Random numbers as a function of seed, step and process, so that an exact resume saves no random state.

Before each training step all generators (torch on every device, numpy, Python) are seeded anew. Random numbers that
were drawn between steps, for sample images or plots, therefore never matter.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ganblocks.errors import RunError, UsageError
from ganblocks.options import NUM_SEEDS
from registry.text import excerpt

WORKSPACE, WORKSPACES = "CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8")  # with which cuBLAS is deterministic


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


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """A context in which the same inputs and seeds give the same bits on a GPU too. Open it before CUDA starts.

    Ops take their kernels without atomic additions. `CUBLAS_WORKSPACE_CONFIG` stays set, because cuBLAS reads it once.

    Raises:
        RunError: CUDA has started with another workspace of cuBLAS, or an operation has no deterministic algorithm.
    """
    if os.environ.setdefault(WORKSPACE, WORKSPACES[0]) not in WORKSPACES:
        raise RunError(f"--deterministic: {WORKSPACE} is {os.environ[WORKSPACE]!r}; unset it, or set {WORKSPACES[0]}")
    memory: Any = torch.utils.deterministic
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        memory.fill_uninitialized_memory,
    )
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # no kernel reads such memory
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error).lower():
            raise
        reason, cure = str(error).partition(", but you set")[0], "train without --deterministic, or with another block"
        if WORKSPACE in reason:  # it was set too late
            reason, cure = (
                "cuBLAS has started already",
                f"set {WORKSPACE}={WORKSPACES[0]} before CUDA is used",
            )
        raise RunError(f"--deterministic: {reason}; {cure}") from error
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = before[2]


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed all generators for one step of one process; step -1 is the initialisation of the networks."""
    drawn = int(np.random.SeedSequence([seed, step + 1, rank]).generate_state(1)[0])
    random.seed(drawn)
    np.random.seed(drawn)
    torch.manual_seed(drawn)


def latents(seeds: Sequence[int], z_dim: int) -> Float[Tensor, "n z"]:
    """One latent per seed; it does not depend on the machine or on the other seeds.

    Raises:
        UsageError: There are no seeds, or one of them is not from 0 to 2^64 - 1.
    """
    if not len(seeds) or not all(0 <= seed < NUM_SEEDS for seed in seeds):
        raise UsageError(f"seeds: {excerpt(list(seeds))} should be one or more integers from 0 to 2^64 - 1")
    return torch.stack([torch.randn(z_dim, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds])

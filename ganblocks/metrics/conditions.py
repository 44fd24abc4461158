"""The classes and captions that images are generated for when a metric is computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from assemblies import Generator
from assemblies.condition import condition_input
from ganblocks.data.dataset import Images
from ganblocks.errors import DataError
from ganblocks.metrics.protocols import Labels


class Conditions:
    """The condition of each generated image.

    Args:
        generator: The generator.
        images: The data set, for its classes or captions; None if there is none.
        labels: How classes are chosen; see `Protocol`. Captions are always drawn from the data.
        num: Number of generated images.
        seed: Random seed.

    Raises:
        DataError: Classes or captions are to be drawn from data, and there are none.
    """

    def __init__(self, generator: Generator, images: Images | None, labels: Labels, num: int, seed: int) -> None:
        self.generator = generator
        self.inputs: list[int] | list[str] | None = None
        self.takes = condition_input(generator.spec)
        draws = np.random.default_rng([seed, 1])
        if self.takes == "captions":
            if images is None or images.captions is None:
                raise DataError(
                    "this is a text-conditional model: give --data with captions, of which prompts are drawn"
                )
            self.inputs = images.draw_captions(num, draws)
        elif generator.cond_dim:
            classes = generator.cond_dim
            if labels == "data":
                if images is None or not images.has_classes:
                    raise DataError(
                        f"the model takes {classes} classes, which the protocol draws from the data; give --data with "
                        "classes, or --labels uniform or balanced"
                    )
                self.inputs = images.draw_classes(num, draws)
            elif labels == "uniform":
                self.inputs = draws.integers(classes, size=num).tolist()
            else:
                self.inputs = [index % classes for index in range(num)]

    def of(self, indices: Sequence[int]) -> tuple[Float[Tensor, "b d"] | None, list[str] | None]:
        """The condition vectors of images, and their captions; None for those that the generator does not take."""
        if self.inputs is None:
            return None, None
        inputs = [self.inputs[index] for index in indices]
        return self.generator.condition_of(inputs), list(map(str, inputs)) if self.takes == "captions" else None

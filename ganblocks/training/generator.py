"""Style mixing: some images get their finer styles from a second latent, so that styles do not lean on each other.

StyleGAN, Karras et al. 2019, https://arxiv.org/abs/1812.04948, section 3.1.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from assemblies import Generator


class StyleMixing(nn.Module):
    """A generator whose mapping mixes the styles of two latents; anything else asked of it, the generator answers.

    Args:
        generator: The generator.
        probability: How often the styles of a batch are mixed, all of it from the same place on.
    """

    def __init__(self, generator: Generator, probability: float) -> None:
        super().__init__()
        self.generator = generator
        self.probability = probability

    def mapping(self, z: Float[Tensor, "b z"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b n s"]:
        ws: Tensor = self.generator.mapping(z, c)
        if torch.rand(()) >= self.probability:  # drawn on the CPU, so that no device has to be waited for
            return ws
        first = int(torch.randint(1, ws.shape[1], ()))
        others: Tensor = self.generator.mapping(torch.randn_like(z), c, update_w_avg=False)
        return torch.cat([ws[:, :first], others[:, first:]], dim=1)

    def forward(self, z: Float[Tensor, "b z"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b k h w"]:
        image: Tensor = self.generator.synthesis(self.mapping(z, c))
        return image

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.generator, name)

"""The generator as training steps and regularizers call it: with style mixing and with a trained condition.

Style mixing gives images their finer styles from a second latent, so that neighbouring styles do not become correlated:
StyleGAN, Karras et al. 2019, https://arxiv.org/abs/1812.04948, section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from assemblies import Generator


class TrainingGenerator(nn.Module):
    """Maps latents to images like its generator: z [B,Z], c -> ws [B,n,W] -> image [B,K,H,W].

    Args:
        generator: The generator; it shares its parameters.
        style_mixing: Probability that a batch takes its styles from two latents, all images from the same style on.
        trains_condition: Whether the generator's own condition is trained. `c` is then what that condition encodes,
            class indices [B] or token ids [B,n], and gradients reach it. Otherwise `c` is a condition vector [B,D].
        compile: Compiles a network; the mapping and the synthesis are compiled, the choices between them are not.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        style_mixing: float = 0.0,
        trains_condition: bool = False,
        compile: Callable[[nn.Module], Callable[..., Tensor]] = lambda network: network,
    ) -> None:
        super().__init__()
        self.generator = generator
        self._mapping, self._synthesis = compile(generator.mapping), compile(generator.synthesis)
        self.style_mixing = style_mixing
        self.trains_condition = trains_condition

    @property
    def z_dim(self) -> int:
        return self.generator.z_dim

    @property
    def num_ws(self) -> int:
        return self.generator.num_ws

    @property
    def resolution(self) -> tuple[int, int]:
        return self.generator.resolution

    @property
    def value_range(self) -> str:
        return self.generator.value_range

    def mapping(self, z: Float[Tensor, "b z"], c: Tensor | None = None) -> Float[Tensor, "b n w"]:
        """Style vectors, mixed with those of random latents if `style_mixing` says so."""
        c = self._encode(c)
        ws = self._mapping(z, c)
        first = self.draw_crossover(ws.shape[1] - self.generator.num_tokens)
        if first is None:
            return ws
        others = self._mapping(torch.randn_like(z), c, update_w_avg=False)
        return torch.cat([ws[:, :first], others[:, first:]], dim=1)

    def draw_crossover(self, num_ws: int) -> int | None:
        """The first style that a second latent gives; None for no mixing. Drawn on the CPU: no device is waited for."""
        if not self.style_mixing or torch.rand(()) >= self.style_mixing:
            return None
        return int(torch.randint(1, num_ws, ()))

    def synthesis(self, ws: Float[Tensor, "b n w"]) -> Float[Tensor, "b k h w"]:
        """The images of style vectors."""
        return self._synthesis(ws)

    def forward(self, z: Float[Tensor, "b z"], c: Tensor | None = None) -> Float[Tensor, "b k h w"]:
        """The images of latents."""
        return self.synthesis(self.mapping(z, c))

    def _encode(self, c: Tensor | None) -> Float[Tensor, "b d"] | None:
        if not self.trains_condition:
            return c
        if c is None or c.is_floating_point():
            raise TypeError("the generator's condition is trained: call it with batch.generator_c, not with batch.c")
        assert self.generator.condition is not None
        encoded: Tensor = self.generator.condition(c)
        return encoded

"""Small blocks that the tests of the registry register and forget again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

from blocks.families import (
    Attention,
    Augment,
    Batch,
    FeedForward,
    Layer,
    Loss,
    Networks,
    Norm,
    OddInt,
    Regularizer,
    Resolution,
)
from registry import Block, Origin, Register, Slot, catalogue, hookimpl, incompatible


class ToyAttention(Attention, kind="toy-attention"):
    """Attention that mixes channels only.

    Args:
        dim: Channels C of the map.
        resolution: Height and width of the map.
        num_heads: Heads that share the channels evenly.
        window: Height and width of the window.
        kernel_sizes: Sides of windows.
    """

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        *,
        num_heads: PositiveInt = 4,
        window: Resolution = 4,  # validation makes a pair of it
        kernel_sizes: tuple[OddInt, ...] = (3, 5),
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise incompatible("num_heads", f"{dim} channels do not split evenly over {num_heads} heads")
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        return self.proj(x).tanh()


class ToyNorm(Norm, kind="toy-norm"):
    """No norm at all."""

    def forward(self, x: Float[Tensor, "b h w c"], w: Float[Tensor, "b s"] | None = None) -> Float[Tensor, "b h w c"]:
        return x


class LossOfImages(Loss, kind="loss-of-images"):
    """Faulty: a loss for each image, and none for the generator."""

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Any:
        return None

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake - real


class UndeclaredPenalty(Regularizer, kind="undeclared-penalty"):
    """Faulty: a gradient penalty that does not declare its second derivative."""

    side = "discriminator"

    def forward(self, networks: Networks, batch: Batch) -> Tensor:
        assert batch.real is not None
        image = batch.real.detach().requires_grad_()
        logits = networks.discriminator(image, batch.c)
        return torch.autograd.grad(logits.sum(), image, create_graph=True)[0].square().mean()


class NoPenalty(UndeclaredPenalty, kind="no-penalty"):
    """Faulty: nothing is returned."""

    def forward(self, networks: Networks, batch: Batch) -> Any:
        return None


class Cropping(Augment, kind="cropping"):
    """Faulty: a row is missing."""

    def forward(self, image: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h2 w"]:
        return image[:, :, 1:] if self.training else image


class Rates(BaseModel):
    """A group of options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fast: Annotated[float, Field(gt=0)] = 0.5
    slow: Annotated[float, Field(gt=0)] = 0.25


class ToyLayer(Layer, kind="toy-layer"):
    """A layer with a slot of every sort.

    Args:
        dim: Channels C of the map.
        resolution: Height and width of the map.
        style_dim: Features of the style.
        attention: What mixes the pixels.
        norm: What comes before it; none by default.
        parts: Any number of attentions and norms, by name or in full.
        mode: One of two words.
        rates: A group of options.
        reach: One number or several.
        gain: A number.
        notes: Words by name.
    """

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        style_dim: int | None = None,
        *,
        attention: Slot[Attention] = "toy-attention",
        norm: Slot[Norm] | None = None,
        parts: tuple[Slot[Attention | Norm], ...] = ("toy-attention",),
        mode: Literal["first", "second"] = "first",
        rates: Rates = Rates(),  # noqa: B008
        reach: int | tuple[int, ...] = 3,
        gain: float | None = None,
        notes: dict[str, str] = {},  # noqa: B006
    ) -> None:
        super().__init__()
        self.attention = self.fill("attention", attention, dim=dim, resolution=resolution)
        self.parts = nn.ModuleList(
            self.fill(f"parts.{i}", part, dim=dim, resolution=resolution) for i, part in enumerate(parts)
        )

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        x = x.permute(0, 2, 3, 1)
        for part in (self.attention, *self.parts):
            x = part(x)
        return x.permute(0, 3, 1, 2)


class ToyFeedForward(FeedForward, kind="toy-feed-forward"):
    """Has an option that must be given.

    Args:
        dim: Channels C of the map.
        ratio: Channels inside, in units of dim.
    """

    def __init__(self, dim: int, *, ratio: Annotated[float, Field(gt=0)]) -> None:
        super().__init__()


class ToyPlugin:
    """A plugin as an object."""

    def __init__(self, *blocks: type[Block]) -> None:
        self.__name__ = f"toys{id(self)}"
        self.blocks = blocks

    @hookimpl
    def register_blocks(self, register: Register) -> None:
        for block in self.blocks:
            register(block)


def installed(*blocks: type[Block]) -> AbstractContextManager[None]:
    """While open, the catalogue has these blocks."""
    return added(ToyPlugin(*blocks))


@contextmanager
def added(plugin: object, origin: Origin | None = None) -> Iterator[None]:
    """While open, the catalogue has what the plugin registers."""
    catalogue.add_plugin(plugin, origin)
    try:
        yield
    finally:
        catalogue.remove_plugin(plugin)


TOYS: tuple[type[Block], ...] = (ToyAttention, ToyNorm, ToyLayer, ToyFeedForward)

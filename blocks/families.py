"""The families: what each sort of block takes and gives, and which wiring its place can offer.

Feature maps travel as [B, C, H, W] in channels-last memory; attention, norms and feed-forward networks see the same
memory as [B, H, W, C]. `w` is a style vector [B, S], `ws` a row of them [B, n, S], `c` a condition [B, D]. Images are
[B, image_channels, H, W].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import torch
from jaxtyping import Float, Int64
from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt
from torch import Tensor, nn

from registry import Block
from registry import Spec as BlockSpec


def _pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"should be odd, so that a window has a centre, not {value}")
    return value


Pair = tuple[PositiveInt, PositiveInt]
Resolution = Annotated[Pair, BeforeValidator(_pair, json_schema_input_type=PositiveInt | Pair)]
"""Height and width in pixels; one number stands for a square."""
OddInt = Annotated[PositiveInt, AfterValidator(_odd)]
Probability = Annotated[float, Field(ge=0, le=1)]


class PassThrough(nn.Module):
    """Gives back what it gets: stands in for a misfit while the rest of a spec is checked."""

    num_styles = 0

    def forward(self, x: Tensor, *_: Any) -> Tensor:
        return x


class Attention(Block, nn.Module, family="attention"):
    """Mixes the pixels of a map: x [B,H,W,C] -> the same shape. Context: dim, resolution."""

    stand_in = PassThrough

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        raise NotImplementedError


class Norm(Block, nn.Module, family="norm"):
    """Normalises a map, under a style if it has `num_styles`: x [B,H,W,C], w [B,S] or None -> same.

    Context: dim, style_dim.
    """

    stand_in = PassThrough
    num_styles: ClassVar[int] = 0  # 1 where `w` is used

    def forward(self, x: Float[Tensor, "b h w c"], w: Float[Tensor, "b s"] | None = None) -> Float[Tensor, "b h w c"]:
        raise NotImplementedError


class FeedForward(Block, nn.Module, family="feed-forward"):
    """Mixes the channels of each pixel: x [B,H,W,C] -> the same shape. Context: dim."""

    stand_in = PassThrough

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        raise NotImplementedError


class Condition(Block, nn.Module, family="condition"):
    """Turns what is told of an image, its class or a caption, into c [B,cond_dim]. No wiring.

    `read` makes integers of what people say, `forward` a condition of the integers.
    """

    condition_input: ClassVar[Literal["classes", "captions"]]
    cond_dim: int

    def read(self, said: Sequence[Any]) -> Int64[Tensor, "b ..."]:
        """Classes or captions as integers; ValueError for what is neither."""
        raise NotImplementedError

    def forward(self, told: Int64[Tensor, "b ..."]) -> Float[Tensor, "b d"]:
        raise NotImplementedError


class Mapping(Block, nn.Module, family="mapping"):
    """Turns latents into styles: z [B,Z], c [B,D] or None -> ws [B,n,S].

    Context: z_dim, style_dim, num_styles, cond_dim.

    `truncation_psi` draws ws towards their tracked mean `w_avg`, the first `truncation_cutoff` of them (None: all). A
    training moves the mean, unless `update_w_avg` is False, as for the second latent of style mixing.
    """

    def forward(
        self,
        z: Float[Tensor, "b z"],
        c: Float[Tensor, "b d"] | None = None,
        *,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        update_w_avg: bool = True,
    ) -> Float[Tensor, "b n s"]:
        raise NotImplementedError


class SynthesisInput(Block, nn.Module, family="synthesis-input"):
    """Where a generator's features come from: ws [B,n,S] -> x [B,C,H,W]. Context: style_dim."""

    num_styles: int = 0  # how many style vectors a step uses, in the order of `ws`

    def forward(self, ws: Float[Tensor, "b n s"]) -> Float[Tensor, "b c h w"]:
        raise NotImplementedError


class Layer(Block, nn.Module, family="layer"):
    """Changes the features: x [B,C,H,W], ws [B,n,S] or None -> [B,C',H',W']. Context: dim, resolution, style_dim.

    In a discriminator there are no styles: `style_dim` is not offered and `ws` is None.
    """

    class Spec(BlockSpec):
        repeat: PositiveInt = Field(1, description="How many of these in a row, each with weights of its own.")

    num_styles: int = 0
    shares_next_style: bool = False  # uses the first style vector of the next step that has one

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b d i j"]:
        raise NotImplementedError


class ImageHead(Block, nn.Module, family="image-head"):
    """Adds to the image what the features say: x, ws, image or None -> image [B,3,H',W'].

    Context: dim, resolution, style_dim, image_channels. An image of lower resolution is resampled first.
    """

    num_styles: int = 0
    shares_next_style: bool = False

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        ws: Float[Tensor, "b n s"],
        image: Float[Tensor, "b k i j"] | None = None,
    ) -> Float[Tensor, "b k u v"]:
        raise NotImplementedError


class Stem(Block, nn.Module, family="stem"):
    """How a discriminator takes an image in: x or None, image -> x, image (resampled for the next intake, or as was).

    Context: dim (None for the first intake), resolution (of the image), image_channels.
    """

    def forward(
        self, x: Float[Tensor, "b c h w"] | None, image: Float[Tensor, "b k i j"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k u v"]]:
        raise NotImplementedError


class Head(Block, nn.Module, family="head"):
    """What a discriminator says of its features: x [B,C,H,W], c [B,D] or None -> logits [B,...].

    Context: dim, resolution, cond_dim.
    """

    def forward(self, x: Float[Tensor, "b c h w"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b ..."]:
        raise NotImplementedError


class Backbone(Block, nn.Module, family="backbone"):
    """Sees images as a network does that learnt elsewhere: image [B,K,H,W] in [-1,1] -> tokens [B,N,C], by depths.

    Context: image_channels. It takes images of any size and resizes them to its `input_size`. It is frozen and stays in
    eval mode; gradients reach the image.
    """

    input_size: tuple[int, int]
    num_parameters: int  # also of what it borrows

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    def forward(self, image: Float[Tensor, "b k h w"]) -> tuple[Float[Tensor, "b ..."], ...]:
        raise NotImplementedError


class WeightNorm(Block, nn.Module, family="weight-norm"):
    """A reparametrisation of a weight: weight [O,...] -> the weight to use, same shape. Context: weight (at first)."""

    sets_scale: ClassVar[bool] = False  # its result is used as it is: equalised maps do not scale it again

    def forward(self, weight: Float[Tensor, "o ..."]) -> Float[Tensor, "o ..."]:
        raise NotImplementedError

    def converge(self, weight: Float[Tensor, "o ..."]) -> None:
        """Set buffers that training passes update step by step, such as singular vectors, to their limit."""


class Augment(Block, nn.Module, family="augment"):
    """Changes images at random, differentiably: image [B,K,H,W] in [-1,1] -> the same shape. No wiring.

    An augmentation that adapts itself learns by `observe` how the discriminator judges; what it keeps lies in buffers,
    so that it is part of a training's state.
    """

    def forward(self, image: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        raise NotImplementedError

    def at(self, images: int) -> None:
        """Called before each step: how many real images have been shown so far."""

    def observe(self, sign: Float[Tensor, ""], num_images: int) -> None:
        """Called once in a step: the mean sign of the logits of so many real images, over all processes."""

    def strength(self) -> dict[str, Tensor]:
        """What of it changes in training, for the log: scalars by name."""
        return {}


class Loss(Block, nn.Module, family="loss"):
    """The adversarial loss of each side, from logits [B,...] of any shape. No wiring."""

    def generator(self, fake: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
        """What the generator minimises, given the logits of its images."""
        raise NotImplementedError

    def discriminator(self, real: Float[Tensor, "b ..."], fake: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
        """What the discriminator minimises, given the logits of real and of generated images."""
        raise NotImplementedError


class Networks(NamedTuple):
    """The networks a regularizer may call; the discriminator sees images, of this range, through `augment`."""

    generator: nn.Module
    discriminator: Callable[..., Tensor]
    augment: Callable[[Tensor], Tensor]
    value_range: str = "symmetric"


class Batch(NamedTuple):
    """Tensors of a training step; None for those that a phase does not have.

    Args:
        real: Real images [B,K,H,W] in the generator's value range.
        fake: Generated images [B,K,H,W] in the same range.
        z: Latents [B,Z].
        c: Condition vectors [B,D].
        real_logits: Logits [B,...] of the real images.
        fake_logits: Logits [B,...] of the generated images.
        tokens: Class indices [B] or token ids [B,n], which a generator whose condition is trained encodes itself.
    """

    real: Tensor | None = None
    fake: Tensor | None = None
    z: Tensor | None = None
    c: Tensor | None = None
    real_logits: Tensor | None = None
    fake_logits: Tensor | None = None
    tokens: Tensor | None = None

    @property
    def generator_c(self) -> Tensor | None:
        """The condition to call the generator with: `tokens` if it encodes them itself, otherwise `c`."""
        return self.c if self.tokens is None else self.tokens


class Regularizer(Block, nn.Module, family="regularizer"):
    """A term beside the loss: networks, batch -> scalar, its weight included. Context: cond_dim.

    With `every` = 1 it is added to the main loss of its side, and the batch carries logits; otherwise it has a phase of
    its own every so many steps, in which its value counts `every` times. What it keeps
    from step to step lies in buffers, which are part of a training's state.
    """

    class Spec(BlockSpec):
        every: PositiveInt = Field(1, description="The term runs in every so many steps, and then counts as often.")

    side: ClassVar[Literal["generator", "discriminator"]]
    second_order: ClassVar[bool] = False  # needs second derivatives of its network: runs under `second_order()`
    synced_buffers: ClassVar[tuple[str, ...]] = ()  # buffers that follow the batch: all processes go on with their mean

    def forward(self, networks: Networks, batch: Batch) -> Float[Tensor, ""]:
        raise NotImplementedError


def to_nhwc(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w c"]:
    """The view of a feature map that attention and norms see; no copy in channels-last memory."""
    return x.permute(0, 2, 3, 1)


def to_nchw(x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b c h w"]:
    """The way back from `channels_last`; no copy."""
    return x.permute(0, 3, 1, 2)


def rows(num: int, ws: Float[Tensor, "b n s"] | None) -> tuple[Tensor | None, ...]:
    """`ws` as `num` vectors, or as many times None."""
    return (None,) * num if ws is None else torch.unbind(ws[:, :num], dim=1)

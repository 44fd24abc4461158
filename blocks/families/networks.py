"""The families that networks are composed of; the table in `blocks.families` lists their contracts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor, nn

from blocks.common.images.latents import undo_scaling
from blocks.families.options import Count
from registry import Block
from registry import Spec as BlockSpec

ConditionInput = Literal["classes", "captions"]
NO_STYLES = {"style_dim": "style vectors, and a discriminator has none"}


class PassThrough(nn.Module):
    """Returns its input; replaces an incompatible block while the rest of a spec is checked."""

    num_styles = 0

    def forward(self, x: Tensor, *_: Any) -> Tensor:
        return x


class Attention(Block, nn.Module, family="attention"):
    """Mixes the pixels of a feature map: x [B,H,W,C] -> the same shape. Context: dim, resolution."""

    stand_in = PassThrough

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        raise NotImplementedError


class Norm(Block, nn.Module, family="norm"):
    """Normalises a feature map, modulated by a style if `num_styles` is 1: x [B,H,W,C], w [B,S] or None -> same shape.

    Context: dim, style_dim.
    """

    stand_in = PassThrough
    missing_context = NO_STYLES
    num_styles: ClassVar[int] = 0  # 1 if the norm uses `w`

    def forward(self, x: Float[Tensor, "b h w c"], w: Float[Tensor, "b s"] | None = None) -> Float[Tensor, "b h w c"]:
        raise NotImplementedError


class FeedForward(Block, nn.Module, family="feed-forward"):
    """Mixes the channels of each pixel: x [B,H,W,C] -> the same shape. Context: dim."""

    stand_in = PassThrough

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        raise NotImplementedError


class Condition(Block, nn.Module, family="condition"):
    """Encodes class labels or captions as the condition c [B,cond_dim]. No context.

    `read` converts labels or captions to integers, `forward` encodes the integers. A condition with tokens is the
    embedding of a caption followed by those of its tokens, see `blocks.condition.tokens`.
    """

    condition_input: ClassVar[ConditionInput]
    cond_dim: int
    num_tokens: int = 0

    def read(self, labels: Sequence[Any]) -> Int64[Tensor, "b ..."]:
        """Class labels as indices [B], or captions as tokens [B,n].

        Raises:
            ValueError: A label is not valid.
        """
        raise NotImplementedError

    def num_unread(self, caption: str) -> int:
        """How many tokens at the end of a caption `read` leaves out."""
        return 0

    def forward(self, tokens: Int64[Tensor, "b ..."]) -> Float[Tensor, "b d"]:
        raise NotImplementedError


class Mapping(Block, nn.Module, family="mapping"):
    """Maps latents to styles: z [B,Z], c [B,D] or None -> ws [B,n,S].

    Context: z_dim, style_dim, num_styles, cond_dim, num_tokens. Where the condition has tokens, the last `num_tokens`
    vectors of ws are those tokens, and the block declares `takes_tokens`.

    `truncation_psi` interpolates between the running mean `w_avg` and ws, for the first `truncation_cutoff` of them
    (None: all). A call in training mode updates the mean, unless `update_w_avg` is False, as for the second latent of
    style mixing.
    """

    takes_tokens: ClassVar[bool] = False

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
    """First step of a synthesis network: ws [B,n,S] -> x [B,C,H,W]. Context: style_dim."""

    num_styles: int = 0  # number n of style vectors that the block uses

    def forward(self, ws: Float[Tensor, "b n s"]) -> Float[Tensor, "b c h w"]:
        raise NotImplementedError


class Layer(Block, nn.Module, family="layer"):
    """A step of a generator or discriminator: x [B,C,H,W], ws [B,n,S] or None -> [B,C',H',W'].

    Context: dim or in_dim, resolution, style_dim. In a discriminator `style_dim` is missing and `ws` is None.
    """

    class Spec(BlockSpec):
        repeat: Count = Field(1, description="Number of copies in a row, each with its own weights.")

    missing_context = NO_STYLES
    num_styles: int = 0  # number n of style vectors that the block uses
    shares_next_style: bool = False  # whether it uses the first style vector of the next step that has styles
    takes_tokens: ClassVar[bool] = False  # whether `ws` are instead the tokens of a caption, with `style_dim` features

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b d i j"]:
        raise NotImplementedError


class ImageHead(Block, nn.Module, family="image-head"):
    """Converts features to pixels and adds them to the image so far: x, ws, image [B,K,h,w] or None -> image [B,K,H,W].

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
    """Converts an image to features and adds them to x: x [B,C,H,W] or None, image -> x, image for the next stem.

    Context: in_dim (None for the first stem), resolution (of the image), image_channels.
    """

    def forward(
        self, x: Float[Tensor, "b c h w"] | None, image: Float[Tensor, "b k i j"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k u v"]]:
        raise NotImplementedError


class Head(Block, nn.Module, family="head"):
    """Last step of a discriminator: x [B,C,H,W], c [B,D] or None -> logits [B,...].

    Context: dim, resolution, cond_dim.
    """

    def forward(self, x: Float[Tensor, "b c h w"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b ..."]:
        raise NotImplementedError


class Projector(Block, nn.Module, family="projector"):
    """A side branch of a discriminator: x [B,C,H,W] -> tokens [B,N,F] that a regularizer compares with other features.

    Context: in_dim, resolution. It is a step of the discriminator's list that leaves features and logits as they are.
    """

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n f"]:
        raise NotImplementedError


class Backbone(Block, nn.Module, family="backbone"):
    """A frozen pretrained network: image [B,K,H,W] in [-1,1] -> tokens [B,N,C] at several depths.

    Context: image_channels. Images of any size are resized to `input_size`. The network stays in eval mode; gradients
    reach the image.
    """

    input_size: tuple[int, int]
    num_parameters: int  # includes those outside the state dict

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode."""
        return super().train(False)

    def forward(self, image: Float[Tensor, "b k h w"]) -> tuple[Float[Tensor, "b ..."], ...]:
        raise NotImplementedError


class Autoencoder(Block, nn.Module, family="autoencoder"):
    """Encodes images as latents and decodes them: latents [B,C,h,w] -> image [B,K,f h,f w] in [-1,1]. No context.

    `moments` encodes. Latents are scaling_factor (mean + deviation x noise - shift_factor), see
    `blocks.common.images.latents`. A generator's decoder is not trained.
    """

    image_channels: int
    latent_channels: int
    downsampling: int  # f: pixels of the image for each of the latents
    scaling_factor: float = 1.0
    shift_factor: float = 0.0

    def moments(self, image: Float[Tensor, "b k i j"]) -> Float[Tensor, "b 2*c h w"]:
        """Mean and standard deviation of the unscaled latents of images in [-1,1], side by side along the channels."""
        raise NotImplementedError

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k i j"]:
        """The images of unscaled latents."""
        raise NotImplementedError

    def forward(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k i j"]:
        factors = {"scaling_factor": self.scaling_factor, "shift_factor": self.shift_factor}
        return self.decode(undo_scaling(latents, **factors))


class WeightNorm(Block, nn.Module, family="weight-norm"):
    """Normalises a weight: weight [O,...] -> the weight to use, same shape. Context: weight (its initial value)."""

    sets_scale: ClassVar[bool] = False  # True: equalised layers do not scale the result

    def forward(self, weight: Float[Tensor, "o ..."]) -> Float[Tensor, "o ..."]:
        raise NotImplementedError

    def converge(self, weight: Float[Tensor, "o ..."]) -> None:
        """Set buffers that training passes update step by step, such as singular vectors, to their limit."""

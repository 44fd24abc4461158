"""The families that a training is composed of: augmentations, losses and regularizers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, ClassVar, Literal, NamedTuple

from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from registry import Block, IncompatibleError, Problem, second_order
from registry import Spec as BlockSpec


def scalar(block: Block, value: Any, method: str = "forward") -> Tensor:
    """The value of a loss or regularizer, which must be a scalar.

    Raises:
        IncompatibleError: It is no tensor, or has axes; a mean of values that are one per image is missing.
    """
    if isinstance(value, Tensor) and not value.ndim:
        return value
    returned = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    fact = f"{method} of {block.kind} returns {returned}"
    cure = f"a {block.family_name} must return a scalar, such as the mean over the batch"
    raise IncompatibleError([Problem(block.slot_path, f"{fact}; {cure}")], type(block).__name__)


class Augment(Block, nn.Module, family="augment"):
    """Random differentiable changes of images: image [B,K,H,W] in [-1,1] -> the same shape. No context.

    In eval mode it returns the images unchanged. Its state, such as an adaptive probability, is in buffers and so in
    checkpoints.
    """

    def __call__(self, image: Tensor, *draws: Any, **named_draws: Any) -> Any:  # some take their random numbers
        changed = super().__call__(image, *draws, **named_draws)
        if not isinstance(changed, Tensor) or changed.shape != image.shape:
            returned = f"images {list(changed.shape)}" if isinstance(changed, Tensor) else type(changed).__name__
            fact = f"{self.kind} returns {returned}; an augmentation must keep the shape {list(image.shape)}"
            raise IncompatibleError([Problem(self.slot_path, fact)], type(self).__name__)
        return changed

    def forward(self, image: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        raise NotImplementedError

    def at(self, images: int) -> None:
        """Called before each training step with the number of real images so far."""

    def observe(self, sign: Float[Tensor, ""], num_images: int) -> None:
        """Called once per training step with the mean sign of the logits of real images.

        Args:
            sign: The mean over all processes.
            num_images: The number of images in the mean.
        """

    def mix(self, real: Float[Tensor, "b k h w"], fake: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        """Called once per step of the discriminator: the images that it gets as real ones, before `forward`."""
        return real

    def strength(self) -> dict[str, Tensor]:
        """Scalars by name for the log, such as the current probability."""
        return {}


class Loss(Block, nn.Module, family="loss"):
    """The adversarial losses of both networks, from logits [B,...] of any shape. No context.

    With `generator_needs_real`, the trainer computes the logits of real images for the generator's loss too, without
    gradients.
    """

    generator_needs_real: ClassVar[bool] = False

    def generator(self, fake: Float[Tensor, "b ..."], real: Float[Tensor, "n ..."] | None = None) -> Float[Tensor, ""]:
        """The generator's loss, from the logits of its images, and of real images where the loss needs them."""
        raise NotImplementedError

    def discriminator(self, real: Float[Tensor, "b ..."], fake: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
        """The discriminator's loss, from the logits of real and of generated images."""
        raise NotImplementedError


def detached_mean(values: Tensor) -> Tensor:
    """The mean of values, without gradients."""
    return values.detach().mean()


class Networks(NamedTuple):
    """The networks that a regularizer may call.

    Args:
        generator: The generator.
        discriminator: The discriminator; it expects augmented images.
        augment: The augmentation of the training.
        value_range: The range of the images: symmetric, unit or imagenet.
        batch_mean: The mean of values [B,...] over the whole batch, without gradients, also where the batch is split
            into micro-batches or over processes.
    """

    generator: nn.Module
    discriminator: Callable[..., Tensor]
    augment: Callable[[Tensor], Tensor]
    value_range: str = "symmetric"
    batch_mean: Callable[[Tensor], Tensor] = detached_mean


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
        pixels: The images [B,K,H,W] in [-1,1] that the real images, which are latents, encode; None for other data.
    """

    real: Tensor | None = None
    fake: Tensor | None = None
    z: Tensor | None = None
    c: Tensor | None = None
    real_logits: Tensor | None = None
    fake_logits: Tensor | None = None
    tokens: Tensor | None = None
    pixels: Tensor | None = None

    @property
    def generator_c(self) -> Tensor | None:
        """The condition to call the generator with: `tokens` if it encodes them itself, otherwise `c`."""
        return self.c if self.tokens is None else self.tokens


class Regularizer(Block, nn.Module, family="regularizer"):
    """A term that is added to the loss of one network: networks, batch -> scalar, weight included. Context: cond_dim.

    With `every` = 1 the term is added to the adversarial loss, and the batch has logits. Otherwise it runs in its own
    phase, and its gradient is multiplied by `every`. Its state is in buffers and so in checkpoints.
    """

    class Spec(BlockSpec):
        every: PositiveInt = Field(1, description="Steps between two uses; the gradient is multiplied by this number.")

    side: ClassVar[Literal["generator", "discriminator"]]
    needs_pixels: ClassVar[bool] = False  # whether data that are latents must contain the images that they encode
    second_order: ClassVar[bool] = False  # whether it differentiates a network's gradient; it runs in `second_order()`
    needs_batch_mean: ClassVar[bool] = False  # whether it calls `networks.batch_mean`

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.kind is not None and getattr(cls, "side", None) not in ("generator", "discriminator"):
            raise TypeError(f"{cls.__name__}: declare whose loss it is added to, side = 'generator' or 'discriminator'")

    @property
    def shared_logits(self) -> Literal["real", "fake"] | None:
        """Which images it takes the gradient at, from their logits of the main loss if these images require it."""
        return None

    def at(self, images: int) -> None:
        """Called before each training step with the number of real images so far."""

    def select(self, batch: Batch) -> Batch:
        """The part of a batch that the term depends on; `forward` is called with it, or with micro-batches of it."""
        return batch

    def __call__(self, networks: Networks, batch: Batch) -> Any:
        with second_order() if self.second_order else nullcontext():
            return scalar(self, super().__call__(networks, batch))

    def forward(self, networks: Networks, batch: Batch) -> Float[Tensor, ""]:
        raise NotImplementedError

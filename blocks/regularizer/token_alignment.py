"""Alignment of a discriminator's tokens with those of a frozen vision transformer, such as DINOv2.

GAT, https://arxiv.org/abs/2509.24935; as in REPA, Yu et al. 2024, https://arxiv.org/abs/2410.06940, section 3.2.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.common.autocast import at_least_float32
from blocks.common.computed_buffer import filled
from blocks.common.images.value_range import IMAGENET_MEAN, to_symmetric
from blocks.families import Backbone, Batch, CurrentValue, Networks, Regularizer, Scheduled, ScheduledIn
from registry import Slot, incompatible

DINOV2 = {
    "kind": "timm",
    "network": "vit_base_patch14_dinov2.lvd142m",
    "image_size": 224,
    "depths": [12],
    "class_token": "first",
    "norm": True,
}
TINY = {
    "kind": "timm",
    "network": "vit_tiny_patch16_224",
    "weights": None,
    "image_size": 16,
    "depths": [1],
    "class_token": "first",
    "norm": True,
    "arguments": {"embed_dim": 4, "depth": 1, "num_heads": 1, "patch_size": 8},
}
Function = Literal["translation", "flip"]


class TokenAlignment(Regularizer, kind="token-alignment"):
    """proj_coeff (1 - cos(P(x_0), t_0) + mean over the patches i of 1 - cos(P(x_i), t_i)), mean over real images.

    P(x_i) are the projected tokens of the discriminator at augmented real images, the class token x_0 first, t_i those
    of the teacher at the same images. If the numbers of patches differ, the teacher's are resized. Where the real
    images are latents, the teacher gets the images that they encode, which the data must contain.

    Args:
        token_dim: Features of the discriminator's projected tokens; 0 if it has no projector.
        teacher: The frozen network; its last depth is used, and the first token of it is the class token.
        proj_coeff: Weight of the term; a number or a schedule.
        teacher_policy: Functions of the GAN's augmentation, a `diffaugment`, that the teacher's images get too.
        teacher_shift: What a translation by k of the R pixels of a side becomes for the S pixels of the teacher's:
            "published" floor(k R / S), which is 0 or -1 for latents, as in GAT's code; or "scaled", k S / R.

    Raises:
        IncompatibleError: The discriminator has no projector, or its tokens have other features than the teacher's.
    """

    side = "discriminator"
    needs_pixels = True
    wants_published_weights = True
    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"teacher": TINY, "proj_coeff": 0.5}},
        {"spec": {"teacher": TINY, "teacher_policy": ["flip"], "teacher_shift": "scaled"}},
    )

    def __init__(
        self,
        token_dim: int | None = None,
        *,
        teacher: Slot[Backbone] = DINOV2,
        proj_coeff: Annotated[Scheduled, ScheduledIn(ge=0)] = 1.0,
        teacher_policy: tuple[Function, ...] = ("translation", "flip"),
        teacher_shift: Literal["published", "scaled"] = "published",
    ) -> None:
        super().__init__()
        if token_dim == 0:
            raise incompatible((), "the discriminator has no projected tokens; add a step token-projector to it")
        self.teacher: Backbone = self.fill("teacher", teacher, image_channels=3)
        if token_dim is not None and torch.get_default_device().type == "meta":  # where documents are checked
            width = self.teacher(torch.zeros(1, 3, *self.teacher.input_size))[-1].shape[-1]
            if width != token_dim:
                fact = f"has tokens of {width} features, but the discriminator projects its own to {token_dim}"
                raise incompatible("teacher", f"{fact}; set dim of token-projector to {width}")
        self.proj_coeff = CurrentValue(proj_coeff)
        self.teacher_policy, self.teacher_shift = teacher_policy, teacher_shift

    def at(self, images: int) -> None:
        self.proj_coeff.at(images)

    def forward(self, networks: Networks, batch: Batch) -> Float[Tensor, ""]:
        real = batch.real
        assert real is not None, "the alignment needs real images"
        pixels = to_symmetric(real, networks.value_range) if batch.pixels is None else batch.pixels
        if pixels.shape[1] not in (1, 3):
            fact = f"the teacher takes grey or RGB images, and real images have {pixels.shape[1]} channels"
            raise ValueError(f"token-alignment: {fact}; train on latents that `data encode --keep-images` wrote")
        augment: Any = networks.augment
        draw = getattr(augment, "draw", None)
        draws = None if draw is None else draw(real)
        augmented = augment(real) if draws is None else augment(real, draws=draws)
        discriminator: Any = networks.discriminator
        tokens = at_least_float32(discriminator.projected_tokens(augmented, batch.c))
        with torch.no_grad():
            targets = self.targets(self.view(pixels, augment, draws, real.shape[2:]), tokens.shape[1], real.shape[2:])
        of_class, of_patches = misalignment(tokens, targets.to(tokens.dtype))
        mean = (of_class + of_patches).mean()
        return (mean * self.proj_coeff.factor(mean)).to(real.dtype)

    def view(
        self, pixels: Float[Tensor, "b k h w"], augment: Any, draws: dict[str, Tensor] | None, side: torch.Size
    ) -> Float[Tensor, "b 3 i j"]:
        """Images in [-1,1] of the teacher's size, with the augmentation of real images of height and width `side`.

        Bicubic resizing without antialiasing; what a translation uncovers is the mean that the teacher subtracts.
        """
        size = self.teacher.input_size
        image = F.interpolate(pixels.expand(-1, 3, -1, -1), size, mode="bicubic", align_corners=False)
        functions = [name for name in self.teacher_policy if name in getattr(augment, "policy", ())]
        if draws is None or not functions:
            return image
        shifts = {
            name: shifted(draws[name], from_side, to_side, self.teacher_shift)
            for name, from_side, to_side in zip(("translation.dy", "translation.dx"), side, size, strict=True)
            if name in draws
        }
        teacher: Any = self.teacher
        if hasattr(teacher, "scale"):
            mean: Tensor = (-teacher.shift / teacher.scale).to(image.dtype)
        else:
            mean = 2 * filled(IMAGENET_MEAN, image)[:, None, None] - 1
        image = image - mean
        for name in functions:
            image = getattr(augment, name)(image, {**draws, **shifts})
        return image + mean

    def targets(self, image: Float[Tensor, "b 3 i j"], num_tokens: int, side: torch.Size) -> Float[Tensor, "b n f"]:
        """The teacher's tokens, the class token first, with its patches resized to the discriminator's."""
        tokens: Tensor = self.teacher(image)[-1]
        patches = resize_tokens(tokens[:, 1:], self.teacher.input_size, num_tokens - 1, (side[0], side[1]))
        return torch.cat([tokens[:, :1], patches], dim=1)


def misalignment(
    tokens: Float[Tensor, "b n f"], targets: Float[Tensor, "b n f"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """1 - cosine of the first tokens, and the mean of 1 - cosine over the others."""
    distance = 1 - (F.normalize(tokens, dim=-1) * F.normalize(targets, dim=-1)).sum(dim=-1)
    return distance[:, 0], distance[:, 1:].mean(dim=1)


def resize_tokens(
    tokens: Float[Tensor, "b n f"], side: tuple[int, int], num_tokens: int, new_side: tuple[int, int]
) -> Float[Tensor, "b m f"]:
    """A grid of patches as another one: bicubic, without antialiasing.

    Args:
        tokens: The tokens, row by row.
        side: Height and width of the image that they are patches of.
        num_tokens: Number of patches of the new grid.
        new_side: Height and width of the image that these are patches of.
    """
    old, new = grid(tokens.shape[1], side), grid(num_tokens, new_side)
    if old == new:
        return tokens
    resized = F.interpolate(tokens.mT.reshape(*tokens.mT.shape[:2], *old), new, mode="bicubic", align_corners=False)
    return resized.flatten(2).mT


def grid(num_tokens: int, side: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of square patches of an image."""
    rows = max(1, round(math.sqrt(num_tokens * side[0] / side[1])))
    return rows, num_tokens // rows


def shifted(shift: Tensor, side: int, teacher_side: int, rule: str) -> Tensor:
    """A shift of real images, in pixels, as one of the teacher's."""
    if rule == "published":
        return torch.div(shift * side, teacher_side, rounding_mode="floor")
    return torch.div(2 * shift * teacher_side + side, 2 * side, rounding_mode="floor")  # rounded

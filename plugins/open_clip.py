"""Texts as conditions, and guidance towards them, by the towers of a CLIP.

CLIP, Radford et al. 2021, https://arxiv.org/abs/2103.00020; guidance as in StyleGAN-T, Sauer et al. 2023,
https://arxiv.org/abs/2301.09515, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.autocast import at_least_float32
from blocks.common.frozen_module import FrozenModule
from blocks.common.guidance import as_seen, random_crop, spherical_distance
from blocks.common.value_range import to_symmetric
from blocks.families import Batch, Condition, Networks, Regularizer
from plugins.towers import Model, Tower, build, configuration, tokens
from registry import Register, hookimpl, incompatible

Precision = Literal["float32", "bfloat16", "float16"]
TINY: Model = {
    "embed_dim": 6,
    "vision_cfg": {"image_size": 8, "layers": 1, "width": 8, "head_width": 4, "patch_size": 4},
    "text_cfg": {"context_length": 5, "vocab_size": 49408, "width": 4, "heads": 2, "layers": 1},
}


class OpenClipText(Condition, kind="open-clip-text"):
    """A caption as the unit vector that the text tower of a CLIP makes of it.

    The tower is borrowed: it stays as it is, and files of models name it and its hash in place of its weights. A tower
    that the model owns is saved with the model, and can learn.

    Args:
        model: The name of one of open_clip's models, such as ViT-L-14, or its configuration: embed_dim, text_cfg and
            vision_cfg. Weights that OpenAI published, in a file of one's own, want ViT-L-14-quickgelu.
        weights: A name that open_clip knows for the model, such as openai, or a file; None for random ones, which the
            model then owns.
        embed_weights: Whether the tower is a part of the model.
        precision: What a borrowed tower computes in.
    """

    condition_input = "captions"
    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"model": TINY, "weights": None, "embed_weights": True}},)
    like: Tensor

    def __init__(
        self,
        *,
        model: Model,
        weights: str | None = None,
        embed_weights: bool = False,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        if weights is None and not embed_weights:
            raise incompatible(
                "weights", "a borrowed tower without weights has learnt nothing; name them, or say embed_weights: true"
            )
        if embed_weights and precision != "float32":
            raise incompatible(
                "precision", f"a tower that the model owns computes as the model does, not in {precision}"
            )
        self.config = configuration(model)
        tower = build("text", model, weights, embed_weights=embed_weights)
        self.cond_dim = tower.embed_dim
        self.embed_weights = embed_weights
        self.tower = _owned(tower) if embed_weights else _frozen(tower, precision)
        self.register_buffer("like", torch.zeros(()), persistent=False)  # knows the dtype to answer in

    def read(self, said: Sequence[Any]) -> Int64[Tensor, "b n"]:
        for each in said:
            if not isinstance(each, str):
                raise ValueError(f"{each!r} is no caption, which is a string")
        return tokens(self.config, list(said))

    def forward(self, told: Int64[Tensor, "b n"]) -> Float[Tensor, "b d"]:
        if self.embed_weights:
            return F.normalize(self.tower(told), dim=-1)
        with _as_it_is(told.device):
            return F.normalize(at_least_float32(self.tower(told)), dim=-1).to(self.like.dtype)


class ClipGuidance(Regularizer, kind="clip-guidance"):
    """The squared angle between a generated image's embedding and its caption's, mean over the batch.

    The weight is what it says for any batch; StyleGAN-T's published code divides its adversarial loss by the images
    that a GPU has at once, so that its weights count that many times more.

    Args:
        cond_dim: Features of the condition, which has to be an embedding of the same CLIP.
        model: The name of one of open_clip's models, such as ViT-L-14, or its configuration.
        weights: A name that open_clip knows for the model, such as openai, or a file; None for random ones.
        weight: Weight of the term.
        crop: Side of the square, somewhere in the image, that the tower looks at; smaller images are seen whole.
        precision: What the tower computes in.
    """

    side = "generator"
    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"model": TINY, "weights": None, "crop": 6, "weight": 0.5}, "context": {"cond_dim": 6}},
    )
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        cond_dim: int | None = None,
        *,
        model: Model,
        weights: str | None = None,
        weight: Annotated[float, Field(ge=0)] = 0.2,
        crop: PositiveInt = 64,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        if not cond_dim:
            raise incompatible((), "guidance goes towards captions; the generator has no condition")
        tower = build("visual", model, weights)
        if tower.embed_dim != cond_dim:
            said = f"embeds images in {tower.embed_dim} features, the condition has {cond_dim}: take the same CLIP"
            raise incompatible("model", said)
        self.weight, self.crop = weight, crop
        size: Any = tower.network.image_size
        self.size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)
        # random weights would differ after each start, so that they are kept
        self.tower = _owned(tower).requires_grad_(False) if weights is None else _frozen(tower, precision)
        self.dtype = None if weights is None else getattr(torch, precision)
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(tower, name)), persistent=False)

    def forward(self, networks: Networks, batch: Batch) -> Float[Tensor, ""]:
        assert batch.c is not None, "guidance goes towards captions"
        image = networks.generator(batch.z, batch.c) if batch.fake is None else batch.fake
        image = to_symmetric(image, getattr(networks.generator, "value_range", "symmetric"))
        distance = spherical_distance(self.features(image), batch.c.to(image.dtype))
        return distance.mean() * self.weight

    def features(self, image: Float[Tensor, "b k h w"]) -> Float[Tensor, "b d"]:
        """Embeddings of images in [-1,1], by a random crop of them."""
        seen = as_seen(random_crop(image, self.crop), self.size, self.mean, self.std)
        with _as_it_is(image.device):
            found: Tensor = self.tower(seen.to(self.dtype or self.mean.dtype))
        return found.to(image.dtype)


def _as_it_is(device: torch.device) -> AbstractContextManager[object]:
    """No mixed precision: a tower computes in its own dtype."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def _owned(tower: Tower) -> nn.Module:
    return tower.network


def _frozen(tower: Tower, precision: Precision) -> nn.Module:
    return FrozenModule(tower.network.to(getattr(torch, precision)), tower.source)


@hookimpl
def register_blocks(register: Register) -> None:
    for block in (ClipGuidance, OpenClipText):
        register(block)

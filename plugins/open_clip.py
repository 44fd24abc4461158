"""Text as a condition, and guidance towards it, by the encoders of a CLIP.

CLIP, Radford et al. 2021, https://arxiv.org/abs/2103.00020; guidance as in StyleGAN-T, Sauer et al. 2023,
https://arxiv.org/abs/2301.09515, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import PositiveInt
from torch import Tensor
from torch.nn import functional as F

from blocks.common.autocast import at_least_float32, no_autocast
from blocks.common.computed_buffer import computed_buffer
from blocks.common.images.value_range import to_symmetric
from blocks.common.pretrained.frozen_module import FrozenModule
from blocks.common.pretrained.guidance import preprocess, random_crop, spherical_distance
from blocks.condition.tokens import caption_embedding
from blocks.families import Batch, Condition, Networks, Regularizer, Scheduled, ScheduledIn, value_at
from plugins.clip_metrics import ClipScore, OpenClipExtractor
from plugins.clip_towers import TINY, Model, TokenEncoder, build, configuration, num_truncated, tokens
from registry import Register, Spec, hookimpl, incompatible

Precision = Literal["float32", "bfloat16", "float16"]


class OpenClipText(Condition, kind="open-clip-text"):
    """Encodes a caption as its embedding by the text encoder of a CLIP, a unit vector.

    By default the encoder is frozen, and model files hold its name and a hash instead of its weights. With
    `embed_weights` they are saved with the model and can be trained.

    Args:
        model: Name of one of open_clip's models, such as ViT-L-14, or its configuration: embed_dim, text_cfg and
            vision_cfg. A local file of OpenAI's weights needs ViT-L-14-quickgelu.
        weights: Name of weights that open_clip knows for the model, such as openai, or a file; null for random weights,
            which need `embed_weights`.
        embed_weights: Whether the weights are part of the model.
        precision: Precision of a frozen encoder.
        tokens: Whether the condition is this embedding and those of all tokens of the caption, for layers such as
            cross-attention: the encoder's outputs, projected as the caption's and scaled to unit length.

    Raises:
        IncompatibleError: The weights are not available here, or the encoder has no outputs of tokens.
    """

    condition_input = "captions"
    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"model": TINY, "weights": None, "embed_weights": True}},
        {"spec": {"model": TINY, "weights": None, "embed_weights": True, "tokens": True}},
    )
    like: Tensor

    def __init__(
        self,
        *,
        model: Model,
        weights: str | None = None,
        embed_weights: bool = False,
        precision: Precision = "float32",
        tokens: bool = False,
    ) -> None:
        super().__init__()
        if weights is None and not embed_weights:
            fact = "a frozen encoder with random weights encodes nothing useful"
            raise incompatible("weights", f"{fact}; set weights, or embed_weights: true")
        if embed_weights and precision != "float32":
            fact = f"an encoder that is part of the model has the model's precision, not {precision}"
            raise incompatible("precision", f"{fact}; use float32")
        self.config = configuration(model)
        tower = build("text", model, weights, embed_weights=embed_weights)
        network = TokenEncoder(tower.network) if tokens else tower.network
        self.num_tokens = network.num_tokens if isinstance(network, TokenEncoder) else 0
        self.cond_dim = (1 + self.num_tokens) * tower.embed_dim
        self.embed_weights = embed_weights
        self.tower = network if embed_weights else FrozenModule(network.to(getattr(torch, precision)), tower.source)
        computed_buffer(self, "like", torch.zeros, ())  # has the dtype of the output

    def read(self, captions: Sequence[Any]) -> Int64[Tensor, "b n"]:
        for caption in captions:
            if not isinstance(caption, str):
                raise ValueError(f"{caption!r} is not a caption: a caption is a string")
        return tokens(self.config, list(captions))

    def num_unread(self, caption: str) -> int:
        return num_truncated(self.config, caption)

    def forward(self, token_ids: Int64[Tensor, "b n"]) -> Float[Tensor, "b d"]:
        if self.embed_weights:
            return F.normalize(self.tower(token_ids), dim=-1).flatten(1)
        with no_autocast(token_ids):
            return F.normalize(at_least_float32(self.tower(token_ids)), dim=-1).flatten(1).to(self.like.dtype)


class ClipGuidance(Regularizer, kind="clip-guidance"):
    """The squared angle between the embeddings of a generated image and of its caption, mean over the batch.

    StyleGAN-T's published code divides the adversarial loss, but not this term, by the number of images per GPU; its
    weight corresponds to a larger one here.

    Args:
        cond_dim: Features of the condition, a text embedding of the same CLIP.
        num_tokens: Number of the condition's tokens, which the guidance leaves out.
        condition: Spec of the condition.
        model: Name of one of open_clip's models, such as ViT-L-14, or its configuration.
        weights: Name of weights that open_clip knows for the model, such as openai, or a file; null for random weights.
        weight: Weight of the term; a number or a schedule.
        crop: Side of the random square crop that is embedded, in pixels; smaller images are embedded whole.
        precision: Precision of the image encoder.
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
        num_tokens: int = 0,
        condition: Spec | None = None,
        *,
        model: Model,
        weights: str | None = None,
        weight: Annotated[Scheduled, ScheduledIn(ge=0)] = 0.2,
        crop: PositiveInt = 64,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        if not cond_dim:
            raise incompatible((), "guidance needs captions, and the generator is unconditional; give it a condition")
        if condition is not None:
            check_condition(condition, model, weights)
        tower = build("visual", model, weights)
        self.num_tokens = num_tokens
        if tower.embed_dim != (embed_dim := cond_dim // (1 + num_tokens)):
            fact = f"embeds images in {tower.embed_dim} features, but the condition has {embed_dim}"
            raise incompatible("model", f"{fact}; use the same CLIP")
        self.schedule, self.crop = weight, crop
        self.at(0)
        size: Any = tower.network.image_size
        self.size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)
        if weights is None:  # random weights differ at each start, so they are saved
            self.tower, self.dtype = tower.network.requires_grad_(False), None
        else:
            self.dtype = getattr(torch, precision)
            self.tower = FrozenModule(tower.network.to(self.dtype), tower.source)
        for name in ("mean", "std"):
            computed_buffer(self, name, torch.tensor, getattr(tower, name))

    def at(self, images: int) -> None:
        self.weight = value_at(self.schedule, images)

    def forward(self, networks: Networks, batch: Batch) -> Float[Tensor, ""]:
        assert batch.c is not None, "guidance needs captions"
        image = networks.generator(batch.z, batch.generator_c) if batch.fake is None else batch.fake
        image = to_symmetric(image, networks.value_range)
        c = caption_embedding(batch.c, self.num_tokens)
        distance = spherical_distance(self.features(image), c.to(image.dtype))
        return distance.mean() * self.weight

    def features(self, image: Float[Tensor, "b k h w"]) -> Float[Tensor, "b d"]:
        """Embeddings of a random crop of images in [-1,1]."""
        crop = preprocess(random_crop(image, self.crop), self.size, self.mean, self.std)
        with no_autocast(image):
            embeddings: Tensor = self.tower(crop.to(self.dtype or self.mean.dtype))
        return embeddings.to(image.dtype)


def check_condition(condition: Spec, model: Model, weights: str | None) -> None:
    """Raise an error unless a condition is the text embedding of this CLIP.

    Raises:
        IncompatibleError: It encodes classes, or has another model or other weights.
    """
    if condition.block.condition_input != "captions":  # type: ignore[attr-defined]
        raise incompatible((), f"guidance needs captions, and the condition {condition.kind} encodes classes")
    if issubclass(condition.block, OpenClipText):
        for name, value in {"model": model, "weights": weights}.items():
            if getattr(condition, name) != value:
                fact = f"is {_brief(value)}, but the condition has {_brief(getattr(condition, name))}"
                raise incompatible(name, f"{fact}; use the same CLIP")


def _brief(value: Any) -> str:
    return "another configuration" if isinstance(value, dict) else str(value)


@hookimpl
def register_blocks(register: Register) -> None:
    for block in (ClipGuidance, ClipScore, OpenClipExtractor, OpenClipText):
        register(block)

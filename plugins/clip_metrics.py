"""Features of CLIP's image encoder, and the CLIP score of text-to-image models.

CLIP, Radford et al. 2021, https://arxiv.org/abs/2103.00020; as a metric: Hessel et al. 2021,
https://arxiv.org/abs/2104.08718, here without its factor 2.5, as StyleGAN-T reports it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from blocks.common.computed_buffer import computed_buffer
from blocks.common.images.value_range import normalization_scale, normalization_shift
from blocks.common.pretrained.frozen_module import FrozenModule
from blocks.common.pretrained.hashes import hashed_source
from blocks.families import FeatureExtractor, FeatureSet, GeneratedBatch, Metric
from plugins.clip_towers import TINY, Model, build, configuration, tokens


class OpenClipExtractor(FeatureExtractor, kind="open-clip"):
    """Image embeddings of a CLIP, not normalised.

    Args:
        model: Name of one of open_clip's models, such as ViT-L-14, or its configuration.
        weights: Name of weights that open_clip knows for the model, such as openai, or a file; null for random weights.
    """

    wants_published_weights = True
    resize_filter = "bicubic of PyTorch, with antialiasing"
    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"model": TINY, "weights": None}},)
    scale: Tensor
    shift: Tensor

    def __init__(self, *, model: Model = "ViT-B-32", weights: str | None = "openai") -> None:
        super().__init__()
        tower = build("visual", model, weights, embed_weights=weights is None)
        size: Any = tower.network.image_size
        self.size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)
        self.origin, network = tower.source, tower.network
        random = weights is None  # random weights are in the state dict
        self.network = network.requires_grad_(False).eval() if random else FrozenModule(network, self.origin)
        computed_buffer(self, "scale", normalization_scale, tower.mean, tower.std)
        computed_buffer(self, "shift", normalization_shift, tower.mean, tower.std)

    def forward(self, images: Shaped[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        x = images.to(self.scale.dtype) / 127.5 - 1
        if tuple(x.shape[2:]) != self.size:
            x = F.interpolate(x, self.size, mode="bicubic", antialias=True, align_corners=False)
        features: Tensor = self.network(x * self.scale + self.shift)
        return features.to(self.scale.dtype)

    def source(self) -> dict[str, str]:
        return hashed_source(self.network, self.origin)


class ClipScore(Metric, kind="clip-score"):
    """The mean cosine between the CLIP embeddings of a generated image and of its caption; higher is better.

    Args:
        model: Name of one of open_clip's models, or its configuration; StyleGAN-T's by default.
        weights: Name of weights that open_clip knows for the model, or a file with both encoders; null for random
            weights.
    """

    uses_reference: ClassVar[bool] = False
    needs_captions: ClassVar[bool] = True
    lower_is_better: ClassVar[bool] = False

    def __init__(self, *, model: Model = "ViT-g-14", weights: str | None = "laion2b_s12b_b42k") -> None:
        super().__init__()
        self.extractor = OpenClipExtractor(model=model, weights=weights)
        self.config = configuration(model)
        tower = build("text", model, weights)
        self.text = FrozenModule(tower.network, tower.source)
        self.min_images = 1

    def measure(self, batch: GeneratedBatch) -> Float[Tensor, "b 1"]:
        assert self.extractor is not None
        assert batch.captions is not None, "the CLIP score needs captions"
        images: Tensor = self.extractor(batch.images)
        ids = tokens(self.config, list(batch.captions)).to(images.device)
        return F.cosine_similarity(images.double(), self.text(ids).double(), dim=1)[:, None]

    def forward(self, generated: FeatureSet, reference: FeatureSet | None) -> dict[str, float]:
        assert generated.features is not None
        cosines = generated.features.flatten().double()
        return {"clip_score": cosines.mean().item(), "clip_score_std": cosines.std(correction=0).item()}

    def record(self) -> dict[str, Any]:
        return super().record() | {"text_encoder": hashed_source(self.text, self.text.source)}

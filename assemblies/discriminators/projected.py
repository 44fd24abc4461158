"""A discriminator on the features of frozen pretrained networks.

Projected GANs, Sauer et al. 2021, https://arxiv.org/abs/2111.01007; heads on a vision transformer, and the crop:
StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section 3.2.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from assemblies.discriminator import Discriminator
from assemblies.limits import MAX_STEPS, check_parameters
from assemblies.synthesis import ValueRange
from assemblies.trace import Shape, Step, Trace, build_on_meta, run_on_meta, trace_once
from blocks.common.images.value_range import to_symmetric
from blocks.common.pretrained.feature_mixing import FeatureMixing
from blocks.common.shapes import check_nchw
from blocks.condition.tokens import caption_embedding
from blocks.families import Backbone, Head, Layer, Probability, Resolution
from registry import IncompatibleError, Problem, Slot, Spec, build_at, collecting, incompatible
from registry.kernels import counting

CONVOLUTIONAL = {  # for the example
    "kind": "timm",
    "network": "resnet18",
    "weights": None,
    "image_size": 16,
    "depths": [1, 2],
    "arguments": {"layers": [1, 1, 1, 1], "channels": [4, 6, 4, 4], "stem_width": 4},
}
Mixing = Literal["none", "channels", "scales"]
Layout = Literal["row", "map"]


class ProjectedDiscriminator(Discriminator, kind="projected"):
    """One or more frozen networks, with a head on each of their depths; the logits are concatenated.

    In training, images larger than a network's input are cropped at random or downsampled.

    Args:
        resolution: Height and width of the images, in pixels.
        image_channels: Channels of the images.
        cond_dim: Features of the condition c; 0 for none.
        num_tokens: Number of the condition's tokens; heads get its other part alone.
        value_range: Range of the images' values; they are converted to [-1,1], which the networks expect.
        networks: The frozen networks.
        layout: Shape of the features: "row" is a map of one row with all tokens, as in StyleGAN-T, "map" the network's
            own map.
        mixing: Fixed random convolutions of the features: "channels" mixes the channels of each depth, "scales" adds
            each depth to the one before as well, as in Projected GANs; "none" is StyleGAN-T's. Needs layout map.
        layers: Layers of each depth before its head, with weights of their own.
        head: The head of each depth, with weights of its own.
        crop_probability: Probability, in training, that a batch is cropped to a network's input size, all images at the
            same position; otherwise, and in eval mode, it is downsampled.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {
            "spec": {
                "networks": [
                    {
                        "kind": "timm",
                        "network": "vit_tiny_patch16_224",
                        "weights": None,
                        "image_size": 16,
                        "depths": [2, 0],
                        "arguments": {"embed_dim": 8, "depth": 2, "num_heads": 2, "patch_size": 4},
                    }
                ],
                "head": {"kind": "token-conv", "embed_dim": 4},
            }
        },
        {
            "spec": {
                "networks": [CONVOLUTIONAL],
                "layout": "map",
                "mixing": "scales",
                "layers": [{"kind": "conv", "dim": 4}],
                "head": "patch",
            }
        },
    )

    def __init__(
        self,
        resolution: Resolution,
        image_channels: int = 3,
        cond_dim: int = 0,
        num_tokens: int = 0,
        value_range: ValueRange = "symmetric",
        *,
        networks: Annotated[tuple[Slot[Backbone], ...], Field(max_length=16)],
        layout: Layout = "row",
        mixing: Mixing = "none",
        layers: Annotated[tuple[Slot[Layer], ...], Field(max_length=MAX_STEPS)] = (),
        head: Slot[Head] = "token-conv",
        crop_probability: Probability = 0.5,
    ) -> None:
        super().__init__()
        self.resolution, self.image_channels = resolution, image_channels
        self.cond_dim, self.num_tokens = cond_dim, num_tokens
        self.value_range: str = value_range
        self.crop_probability = crop_probability
        self.layout, self.mixing = layout, mixing
        if mixing != "none" and layout == "row":
            raise incompatible("mixing", f"{mixing} mixes maps, and the features are rows of tokens; set layout: map")
        embed_dim = cond_dim // (1 + num_tokens)
        trace = _trace(networks, (*layers, head), layout, resolution, image_channels, embed_dim)
        if trace.problems:
            raise IncompatibleError(trace.problems)
        self.networks, self.mixers, self.layers, self.heads = (nn.ModuleList() for _ in range(4))
        dims: list[list[int]] = []  # of the features of each network
        first, before_head = True, nn.ModuleList()
        for step in trace.steps:
            block = build_at(step.path, step.spec, **step.context)
            if isinstance(block, Backbone):
                self.networks.append(block)
                self.layers.append(nn.ModuleList())
                self.heads.append(nn.ModuleList())
                dims.append([])
                continue
            if first:
                dims[-1].append(step.context["dim"])
            first = isinstance(block, Head)
            if not first:
                before_head.append(block)
                continue
            self.layers[-1].append(before_head)  # type: ignore[operator]
            self.heads[-1].append(block)  # type: ignore[operator]
            before_head = nn.ModuleList()
        if mixing != "none":
            self.mixers.extend(FeatureMixing(each, across_scales=mixing == "scales") for each in dims)

    @classmethod
    def trace(
        cls, spec: Spec, resolution: tuple[int, int], image_channels: int = 3, cond_dim: int = 0, num_tokens: int = 0
    ) -> Trace:
        assert isinstance(spec, cls.Spec)
        blocks, embed_dim = (*spec.layers, spec.head), cond_dim // (1 + num_tokens)
        return _trace(spec.networks, blocks, spec.layout, resolution, image_channels, embed_dim)

    def forward(self, image: Float[Tensor, "b k h w"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b n"]:
        return self.logits(self.features(image), c)

    def features(self, image: Float[Tensor, "b k h w"]) -> list[Float[Tensor, "b c i j"]]:
        """The features that enter the layers or heads, network by network and depth by depth."""
        check_nchw(self, image, name="image")
        image = to_symmetric(image, self.value_range)
        features: list[Tensor] = []
        networks: Any = self.networks
        for index, network in enumerate(networks):
            tokens = network(self.fit(image, network.input_size))
            maps = [as_map(each, self.layout, network.input_size) for each in tokens]
            features += self.mixers[index](maps) if len(self.mixers) else maps
        return features

    def logits(
        self, features: list[Float[Tensor, "b c i j"]], c: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b n"]:
        """The logits of all heads, side by side."""
        c = c if c is None else caption_embedding(c, self.num_tokens)
        depths: Any = zip(self.layers, self.heads, strict=True)
        heads = [pair for layers, heads in depths for pair in zip(layers, heads, strict=True)]
        logits = []
        for (layers, head), x in zip(heads, features, strict=True):
            for layer in layers:
                x = layer(x)
            logits.append(head(x, c).flatten(1))
        return torch.cat(logits, dim=1)

    def fit(self, image: Float[Tensor, "b k h w"], size: tuple[int, int]) -> Float[Tensor, "b k i j"]:
        """In training, images larger than `size` cropped or downsampled to it at random; otherwise as they are."""
        (rows, columns), (height, width) = size, image.shape[2:]
        if not (self.training and self.crop_probability) or (height, width) == size or height < rows or width < columns:
            return image
        top = torch.arange(rows, device=image.device) + _offset(height - rows, image.device)
        left = torch.arange(columns, device=image.device) + _offset(width - columns, image.device)
        crop = image.index_select(2, top).index_select(3, left)
        whole = F.adaptive_avg_pool2d(image, size)
        return torch.where(torch.rand((), device=image.device) < self.crop_probability, crop, whole)


def as_map(tokens: Float[Tensor, "b n c"], layout: Layout, size: tuple[int, int]) -> Float[Tensor, "b c i j"]:
    """Tokens of an image of `size` as a feature map of one row, or of the image's proportions; no copy.

    Raises:
        IncompatibleError: The tokens are not a map of these proportions.
    """
    if layout == "row":
        return tokens.mT[:, :, None]
    count = tokens.shape[1]
    rows = round(math.sqrt(count * size[0] / size[1]))
    if not rows or count % rows:
        fact = f"{count} tokens are no map of the proportions {size[0]} x {size[1]}"
        raise incompatible("layout", f"{fact}; set layout: row")
    return tokens.mT.unflatten(2, (rows, count // rows))


def _offset(largest: int, device: torch.device) -> Tensor:
    return torch.randint(largest + 1, (), device=device)


def _trace(
    networks: tuple[Any, ...],
    blocks: tuple[Any, ...],
    layout: Layout,
    resolution: tuple[int, int],
    image_channels: int,
    cond_dim: int,
) -> Trace:
    context = ("projected", layout, *resolution, image_channels, cond_dim)
    image, c = (image_channels, *resolution), cond_dim
    return trace_once((*networks, *blocks), context, lambda: _trace_networks(networks, blocks, layout, image, c))


def _trace_networks(
    networks: tuple[Any, ...], blocks: tuple[Any, ...], layout: Layout, image_shape: Shape, cond_dim: int
) -> Trace:
    """Each network, followed by the layers and heads of its depths, built and run on the meta device."""
    steps: list[Step] = []
    complete = bool(networks)
    with torch.device("meta"), torch.no_grad(), counting(), collecting() as problems:
        image = torch.zeros(1, *image_shape)
        c = torch.zeros(1, cond_dim) if cond_dim else None
        if not networks:
            problems.append(Problem(("networks",), "is empty; add a network such as timm"))
        for index, spec in enumerate(networks):
            try:
                steps += _trace_network(("networks", index), spec, blocks, layout, image, c)
                check_parameters(("networks", index), sum(step.parameters for step in steps))
            except IncompatibleError as error:
                problems.extend(error.problems)
                complete = False
    return Trace(tuple(steps), tuple(dict.fromkeys(problems)), complete)


def _trace_network(
    path: tuple[str | int, ...], spec: Any, blocks: tuple[Any, ...], layout: Layout, image: Tensor, c: Tensor | None
) -> list[Step]:
    context: dict[str, Any] = {"image_channels": image.shape[1], "resolution": tuple(image.shape[2:])}
    network = build_on_meta(path, spec, context)
    tokens, multiply_adds = run_on_meta(path, network, lambda: network(image))
    maps = [as_map(each, layout, network.input_size) for each in tokens]
    last = tuple(maps[-1].shape[1:])
    steps = [_step(path, spec, context, last, None, network.num_parameters, multiply_adds)]
    depths: dict[torch.Size, list[Step]] = {}  # layers and heads of equal features are equal
    for features in maps:
        if features.shape not in depths:
            depths[features.shape] = _trace_depth(blocks, features, c)
        steps += depths[features.shape]
    return steps


def _trace_depth(blocks: tuple[Any, ...], features: Tensor, c: Tensor | None) -> list[Step]:
    """The layers of one depth, and its head."""
    steps: list[Step] = []
    for index, spec in enumerate(blocks):
        is_head = index + 1 == len(blocks)
        path: tuple[str | int, ...] = ("head",) if is_head else ("layers", index)
        for _ in range(1 if is_head else spec.repeat):
            dim = features.shape[1]
            context: dict[str, Any] = {"dim": dim, "in_dim": dim, "resolution": tuple(features.shape[2:])}
            context |= {"cond_dim": 0 if c is None else c.shape[1]}
            block = build_on_meta(path, spec, context).eval()
            call = partial(block, features, c) if is_head else partial(block, features)
            output, multiply_adds = run_on_meta(path, block, call)
            parameters = sum(parameter.numel() for parameter in block.parameters())
            features = features if is_head else output
            outputs = tuple(output.flatten(1).shape[1:]) if is_head else None
            steps.append(_step(path, spec, context, tuple(features.shape[1:]), outputs, parameters, multiply_adds))
    return steps


def _step(
    path: tuple[str | int, ...],
    spec: Any,
    context: dict[str, Any],
    features: Shape | None,
    logits: Shape | None,
    parameters: int,
    multiply_adds: int,
) -> Step:
    return Step(path, spec, context, 0, False, features, None, logits, parameters, multiply_adds)

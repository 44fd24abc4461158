"""A discriminator on the features of frozen pretrained networks.

Projected GANs, Sauer et al. 2021, https://arxiv.org/abs/2111.01007; heads on a vision transformer, and the crop:
StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section 3.2.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from assemblies.discriminator import Discriminator
from assemblies.generator import ValueRange
from assemblies.limits import check_parameters
from assemblies.trace import Shape, Step, Trace, build_on_meta, run_on_meta, trace_once
from blocks.common.images.value_range import to_symmetric
from blocks.families import Backbone, Head, Probability, Resolution
from registry import IncompatibleError, Problem, Slot, Spec, build_at, collecting
from registry.kernels import counting


class ProjectedDiscriminator(Discriminator, kind="projected"):
    """One or more frozen networks, with a head on each of their depths; the logits are concatenated.

    In training, images larger than a network's input are cropped at random or downsampled.

    Args:
        resolution: Height and width of the images, in pixels.
        image_channels: Channels of the images.
        cond_dim: Features of the condition c; 0 for none.
        value_range: Range of the images' values; they are converted to [-1,1], which the networks expect.
        networks: The frozen networks.
        head: The head of each depth, with weights of its own; its input is the tokens as a feature map of one row.
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
    )

    def __init__(
        self,
        resolution: Resolution,
        image_channels: int = 3,
        cond_dim: int = 0,
        value_range: ValueRange = "symmetric",
        *,
        networks: Annotated[tuple[Slot[Backbone], ...], Field(max_length=16)],
        head: Slot[Head] = "token-conv",
        crop_probability: Probability = 0.5,
    ) -> None:
        super().__init__()
        self.resolution, self.image_channels, self.cond_dim = resolution, image_channels, cond_dim
        self.value_range: str = value_range
        self.crop_probability = crop_probability
        trace = _trace(networks, head, resolution, image_channels, cond_dim)
        if trace.problems:
            raise IncompatibleError(trace.problems)
        self.networks, self.heads = nn.ModuleList(), nn.ModuleList()
        for step in trace.steps:
            block = build_at(step.path, step.spec, **step.context)
            if isinstance(block, Backbone):
                self.networks.append(block)
                self.heads.append(nn.ModuleList())
            else:
                self.heads[-1].append(block)  # type: ignore[operator]

    @classmethod
    def trace(cls, spec: Spec, resolution: tuple[int, int], image_channels: int = 3, cond_dim: int = 0) -> Trace:
        assert isinstance(spec, cls.Spec)
        return _trace(spec.networks, spec.head, resolution, image_channels, cond_dim)

    def forward(self, image: Float[Tensor, "b k h w"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b n"]:
        return self.logits(self.features(image), c)

    def features(self, image: Float[Tensor, "b k h w"]) -> list[Float[Tensor, "b c 1 n"]]:
        """The features that enter the heads, network by network and depth by depth."""
        image = to_symmetric(image, self.value_range)
        networks: Any = self.networks
        return [as_map(tokens) for network in networks for tokens in network(self.fit(image, network.input_size))]

    def logits(
        self, features: list[Float[Tensor, "b c 1 n"]], c: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b n"]:
        """The logits of all heads, side by side."""
        all_heads: Any = self.heads
        heads = [head for of_network in all_heads for head in of_network]
        return torch.cat([head(each, c).flatten(1) for head, each in zip(heads, features, strict=True)], dim=1)

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


def as_map(tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b c 1 n"]:
    """Tokens as a feature map of one row; no copy."""
    return tokens.mT[:, :, None]


def _offset(largest: int, device: torch.device) -> Tensor:
    return torch.randint(largest + 1, (), device=device)


def _trace(
    networks: tuple[Any, ...], head: Any, resolution: tuple[int, int], image_channels: int, cond_dim: int
) -> Trace:
    context = ("projected", *resolution, image_channels, cond_dim)
    return trace_once(
        (*networks, head), context, lambda: _trace_networks(networks, head, resolution, image_channels, cond_dim)
    )


def _trace_networks(
    networks: tuple[Any, ...], head: Any, resolution: tuple[int, int], image_channels: int, cond_dim: int
) -> Trace:
    """Each network, followed by the heads of its depths, built and run on the meta device."""
    steps: list[Step] = []
    complete = bool(networks)
    with torch.device("meta"), torch.no_grad(), counting(), collecting() as problems:
        image = torch.zeros(1, image_channels, *resolution)
        c = torch.zeros(1, cond_dim) if cond_dim else None
        if not networks:
            problems.append(Problem(("networks",), "is empty; add a network such as timm"))
        for index, spec in enumerate(networks):
            try:
                steps += _trace_network(("networks", index), spec, head, image, c)
                check_parameters(("networks", index), sum(step.parameters for step in steps))
            except IncompatibleError as error:
                problems.extend(error.problems)
                complete = False
    return Trace(tuple(steps), tuple(dict.fromkeys(problems)), complete)


def _trace_network(
    path: tuple[str | int, ...], spec: Any, head_spec: Any, image: Tensor, c: Tensor | None
) -> list[Step]:
    context: dict[str, Any] = {"image_channels": image.shape[1], "resolution": tuple(image.shape[2:])}
    network = build_on_meta(path, spec, context)
    tokens, multiply_adds = run_on_meta(path, network, lambda: network(image))
    last = tuple(as_map(tokens[-1]).shape[1:])
    steps = [_step(path, spec, context, last, None, network.num_parameters, multiply_adds)]
    heads: dict[torch.Size, Step] = {}  # heads of equal features are equal
    for features in map(as_map, tokens):
        dim = features.shape[1]
        context = {"dim": dim, "in_dim": dim, "resolution": tuple(features.shape[2:])}
        context |= {"cond_dim": 0 if c is None else c.shape[1]}
        if features.shape not in heads:
            heads[features.shape] = _trace_head(head_spec, context, features, c)
        steps.append(heads[features.shape])
    return steps


def _trace_head(spec: Any, context: dict[str, Any], features: Tensor, c: Tensor | None) -> Step:
    head = build_on_meta(("head",), spec, context).eval()
    logits, multiply_adds = run_on_meta(("head",), head, lambda: head(features, c))
    parameters = sum(parameter.numel() for parameter in head.parameters())
    outputs = tuple(logits.flatten(1).shape[1:])
    return _step(("head",), spec, context, tuple(features.shape[1:]), outputs, parameters, multiply_adds)


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

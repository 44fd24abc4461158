"""A discriminator that sees through frozen networks: heads judge what these make of an image.

Projected GANs, Sauer et al. 2021, https://arxiv.org/abs/2111.01007; heads on a vision transformer, and the crop:
StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section 3.2.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from assemblies.discriminator import Discriminator
from assemblies.trace import Shape, Step, Trace
from blocks.families import Backbone, Head, Probability, Resolution
from registry import IncompatibleError, Problem, Slot, Spec, build_at, collecting
from registry.kernels import counting


class ProjectedDiscriminator(Discriminator, kind="projected"):
    """One or several frozen networks side by side, a head on each depth of each, all logits in a row.

    In training an image larger than what a network sees is cropped at random, or shrunk as a whole.

    Args:
        resolution: Height and width of the images, in pixels.
        image_channels: Channels of the images.
        cond_dim: Features of the condition c; 0 for none.
        networks: What the images are seen through.
        head: What judges the tokens of each depth, which it gets as a map of one row; each with weights of its own.
        crop_probability: How often a batch in training is cropped to a network's input size, all images at one place;
            otherwise, and in evaluation, it is shrunk.
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
        *,
        networks: tuple[Slot[Backbone], ...],
        head: Slot[Head] = "token-conv",
        crop_probability: Probability = 0.5,
    ) -> None:
        super().__init__()
        self.resolution, self.image_channels, self.cond_dim = resolution, image_channels, cond_dim
        self.crop_probability = crop_probability
        found = _trace(networks, head, resolution, image_channels, cond_dim)
        if found.problems:
            raise IncompatibleError(found.problems)
        self.networks, self.heads = nn.ModuleList(), nn.ModuleList()
        for step in found.steps:
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
        logits = []
        each: Any
        heads: Any
        for each, heads in zip(self.networks, self.heads, strict=True):
            for tokens, head in zip(each(self.part(image, each.input_size)), heads, strict=True):
                logits.append(head(as_map(tokens), c).flatten(1))
        return torch.cat(logits, dim=1)

    def part(self, image: Float[Tensor, "b k h w"], size: tuple[int, int]) -> Float[Tensor, "b k i j"]:
        """In training either a crop of the images or all of them at that size, as the chance of this call falls."""
        (height, width), given = size, (image.shape[2], image.shape[3])
        if not (self.training and self.crop_probability and given != size and given[0] >= height and given[1] >= width):
            return image
        rows = torch.arange(height, device=image.device) + _offset(given[0] - height, image.device)
        columns = torch.arange(width, device=image.device) + _offset(given[1] - width, image.device)
        crop = image.index_select(2, rows).index_select(3, columns)
        whole = F.adaptive_avg_pool2d(image, size)
        return torch.where(torch.rand((), device=image.device) < self.crop_probability, crop, whole)


def as_map(tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b c 1 n"]:
    """Tokens as heads see features: a map of one row; no copy."""
    return tokens.mT[:, :, None]


def _offset(largest: int, device: torch.device) -> Tensor:
    return torch.randint(largest + 1, (), device=device)


def _trace(
    networks: tuple[Any, ...], head: Any, resolution: tuple[int, int], image_channels: int, cond_dim: int
) -> Trace:
    """Each network, and after it a head for each of its depths, built and run on the meta device."""
    steps: list[Step] = []
    complete = bool(networks)
    with torch.device("meta"), torch.no_grad(), counting(), collecting() as problems:
        image = torch.zeros(1, image_channels, *resolution)
        c = torch.zeros(1, cond_dim) if cond_dim else None
        if not networks:
            problems.append(Problem(("networks",), "names no network to see through; add one such as timm"))
        for index, spec in enumerate(networks):
            try:
                _look(("networks", index), spec, head, image, c, steps)
            except IncompatibleError as error:
                problems.extend(error.problems)
                complete = False
    return Trace(tuple(steps), tuple(dict.fromkeys(problems)), complete)


def _look(
    path: tuple[str | int, ...], spec: Any, head: Any, image: Tensor, c: Tensor | None, steps: list[Step]
) -> None:
    context = {"image_channels": image.shape[1], "resolution": tuple(image.shape[2:])}
    network = build_at(path, spec, **context)
    tokens, multiply_adds = _counted(path, network, image)
    last = tuple(as_map(tokens[-1]).shape[1:])
    steps.append(_step(path, spec, context, last, None, network.num_parameters, multiply_adds))
    for each in tokens:
        seen = as_map(each)
        told = {"dim": seen.shape[1], "in_dim": seen.shape[1], "resolution": tuple(seen.shape[2:])}
        told |= {"cond_dim": 0 if c is None else c.shape[1]}
        judge = build_at(("head",), head, **told).eval()
        logits, multiply_adds = _counted(("head",), judge, seen, c)
        parameters = sum(parameter.numel() for parameter in judge.parameters())
        given = tuple(logits.flatten(1).shape[1:])
        steps.append(_step(("head",), head, told, tuple(seen.shape[1:]), given, parameters, multiply_adds))


def _counted(path: tuple[str | int, ...], block: nn.Module, *inputs: Any) -> tuple[Any, int]:
    """What a block gives, and its multiplications with addition."""
    with FlopCounterMode(display=False) as counter:
        try:
            found = block(*inputs)
        except (ValueError, RuntimeError, IndexError, TypeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise IncompatibleError([Problem(path, f"{type(block).__name__} does not run here: {reason}")]) from error
    return found, counter.get_total_flops() // 2


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

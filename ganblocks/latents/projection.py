"""Projection: the style vectors whose image is nearest to a given image.

StyleGAN2, Karras et al. 2019, https://arxiv.org/abs/1912.04958, section 5 and appendix D: Adam on w with noise that
fades. Laplacian pyramid loss: Bojanowski et al. 2018, https://arxiv.org/abs/1707.05776, section 3. W+, a style vector
of its own for each layer: Abdal et al. 2019, https://arxiv.org/abs/1904.03189.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from assemblies import Generator
from blocks.common.noise import noise_mode
from blocks.families import FeatureExtractor
from ganblocks.pixels import to_symmetric
from ganblocks.sampling.generate import Truncation, styles, synthesize

Space = Literal["w", "w+"]
Features = Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b f"]]
CANDIDATES = 1024  # random style vectors, of which the one with the best image is the start
RAMP_UP, RAMP_DOWN = 0.05, 0.25  # shares of the steps
LARGEST = 256  # px of the longer side of images that features are taken of, as in the paper
NOISE, NOISE_LENGTH = 0.05, 0.75  # in standard deviations of w, and the share of the steps after which it is 0


class Projection(NamedTuple):
    """The result of `project`.

    Args:
        ws: Style vectors.
        image: Their image, in the generator's value range.
        losses: The loss at each step.
        psnr: Peak signal-to-noise ratio of the image against the target, in dB.
        frames: Images during the optimisation, if they were asked for.
    """

    ws: Float[Tensor, "1 num_ws w"]
    image: Float[Tensor, "1 c h w"]
    losses: list[float]
    psnr: float
    frames: list[Float[Tensor, "1 c h w"]]


def project(
    generator: Generator,
    target: Float[Tensor, "1 c h w"],
    *,
    space: Space = "w",
    steps: int = 500,
    learning_rate: float = 0.1,
    c: Float[Tensor, " d"] | None = None,
    features: Features | None = None,
    frames: int = 0,
    seed: int = 0,
) -> Projection:
    """Find the style vectors whose image is nearest to `target`.

    The loss is the mean squared difference of the pixels plus that of a Laplacian pyramid, in the range [-1,1], plus
    the squared distance of features if there are any. The noise of the generator's layers is constant.

    Args:
        generator: In eval mode.
        target: An image of the generator's size, in its value range.
        space: "w" for one style vector for all layers, "w+" for one each.
        steps: Steps of Adam.
        learning_rate: Its highest rate; it rises over the first 5 % and falls over the last 25 % of the steps.
        c: Condition of the style vectors from which the search starts.
        features: A differentiable network for a perceptual loss, such as a frozen feature extractor; it gets images in
            [-1,1].
        frames: Number of images to keep, evenly spaced over the steps.
        seed: Seed of the noise.

    Raises:
        ValueError: The target has another shape than the generator's images, or `space` is unknown.
    """
    shape = (1, *generator.picture_shape)
    if target.shape != shape or space not in ("w", "w+"):
        raise ValueError(f"projection needs a target of shape {shape} and space w or w+, not {target.shape}, {space!r}")
    parameter = next(generator.parameters())
    goal = to_symmetric(target.to(parameter), generator.value_range)
    start, deviation = _start(generator, goal, c)
    variable = (start.mean(1, keepdim=True) if space == "w" else start).clone().requires_grad_()
    optimizer = torch.optim.Adam([variable], betas=(0.9, 0.999))
    random = torch.Generator().manual_seed(seed)
    goal_features = None if features is None else features(goal).detach()
    kept = {round(step) for step in torch.linspace(0, steps - 1, frames).tolist()} if frames else set()
    losses, images = [], []
    for step in range(steps):
        progress = step / steps
        optimizer.param_groups[0]["lr"] = learning_rate * rate(progress)
        strength = NOISE * deviation * max(0.0, 1 - progress / NOISE_LENGTH) ** 2
        noise = torch.randn(variable.shape, generator=random).to(variable) * strength
        with noise_mode("const"):
            image = generator.decode(generator.synthesis((variable + noise).expand(-1, generator.num_ws, -1)))
        shown = to_symmetric(image, generator.value_range)
        loss = distance(shown, goal)
        if features is not None and goal_features is not None:
            loss = loss + (features(shown) - goal_features).square().sum()
        (variable.grad,) = torch.autograd.grad(loss, variable)
        optimizer.step()
        losses.append(loss.item())
        if step in kept:
            images.append(image.detach().float().cpu())
    ws = variable.detach().expand(-1, generator.num_ws, -1).clone()
    image = next(synthesize(generator, ws, noise="const"))
    shown = to_symmetric(image, generator.value_range).clamp(-1, 1)
    error = (shown - goal.float().cpu().clamp(-1, 1)).square().mean().item()
    psnr = math.inf if error == 0 else 10 * math.log10(4 / error)
    return Projection(ws, image, losses, psnr, images)


def perceptual(extractor: FeatureExtractor) -> Features:
    """Features of images in [-1,1] for `project`: of LPIPS, whose squared distance is LPIPS, or others at length 1."""

    def features(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f"]:
        ratio = LARGEST / max(images.shape[2:])
        if ratio < 1:
            images = F.interpolate(images, [round(ratio * side) for side in images.shape[2:]], mode="area")
        found: Tensor = extractor(images.expand(-1, 3, -1, -1) * 127.5 + 127.5)
        return found if extractor.kind == "lpips" else F.normalize(found)

    return features


def distance(image: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Mean squared difference of the pixels plus that of each level of a Laplacian pyramid, mean over the batch."""
    difference = image - target  # the pyramid is linear
    total = difference.square().mean()
    while min(difference.shape[-2:]) >= 4:
        coarse = F.avg_pool2d(difference, 2, ceil_mode=True)
        detail = difference - F.interpolate(coarse, size=difference.shape[-2:], mode="bilinear", align_corners=False)
        total = total + detail.square().mean()
        difference = coarse
    return total + difference.square().mean()


def rate(progress: float) -> float:
    """The factor of the learning rate at a share of the steps, from 0 to 1."""
    down = min(1.0, (1 - progress) / RAMP_DOWN)
    return (0.5 - 0.5 * math.cos(math.pi * down)) * min(1.0, progress / RAMP_UP + 1e-3)


@torch.no_grad()
def _start(
    generator: Generator, goal: Float[Tensor, "1 c h w"], c: Float[Tensor, " d"] | None
) -> tuple[Float[Tensor, "1 num_ws w"], float]:
    """The best of random style vectors, and the standard deviation of the style vectors."""
    candidates = styles(generator, range(CANDIDATES), c=c, truncation=Truncation())
    mean = candidates.mean(0, keepdim=True)
    deviation = (candidates - mean).square().sum(-1).mean().sqrt().item() / math.sqrt(generator.w_dim)
    errors = []
    for image in (each for batch in synthesize(generator, candidates, noise="const") for each in batch):
        errors.append(distance(to_symmetric(image[None], generator.value_range).to(goal), goal).item())
    best = min(range(CANDIDATES), key=errors.__getitem__)
    return candidates[best : best + 1], deviation

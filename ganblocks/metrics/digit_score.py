"""How good generated digits are: a classifier trained on the spot, and the Fréchet distance in its features.

The idea of FID, Heusel et al. 2017, https://arxiv.org/abs/1706.08500, with a small network that knows digits in place
of Inception. The numbers are comparable with each other, not with FID.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from assemblies import Generator
from ganblocks.data.dataset import digits
from ganblocks.metrics.frechet import frechet_distance, gaussian_of
from ganblocks.pixels import from_bytes, to_symmetric
from ganblocks.randomness import own_randomness, seed_step
from ganblocks.sampling.generate import generate

SIDE = 16  # pixels that the classifier looks at
FEATURES = 32
EPOCHS = 12
CHUNK = 512


class DigitScore:
    """Knows the handwritten digits of `data="digits"`; made in a few seconds on a CPU.

    Args:
        resolution: Height and width of the images to judge: real digits go through the same scaling.
        seed: What the classifier's weights and the order of its training follow from.

    Attributes:
        accuracy: Part of the held-out digits that the classifier reads right.
        floor: The distance of the 360 held-out digits from the training ones: what new real images get. So few samples
            make it a little larger than many would.
    """

    def __init__(self, resolution: int | tuple[int, int] = 32, seed: int = 0) -> None:
        train, held_out = (digits(split, resolution) for split in ("train", "held-out"))
        assert train.labels is not None
        assert held_out.labels is not None
        real, unseen = (from_bytes(each.pixels, "symmetric") for each in (train, held_out))
        with own_randomness():
            seed_step(seed, -1)
            self.network = Classifier()
            threads = torch.get_num_threads()
            torch.set_num_threads(1)  # so small a network gains nothing by more, and loses much on a busy machine
            fit(self.network, _seen(real), train.labels, np.random.default_rng(seed))
            torch.set_num_threads(threads)
        self.real = gaussian_of(self.features(real))
        self.accuracy = (self.classify(unseen) == held_out.labels).double().mean().item()
        self.floor = self.distance(unseen)

    def score(self, generator: Generator, seed: int = 0, num_samples: int = 2000) -> float:
        """The distance of a generator's images from the training digits; lower is better, about `floor` is the best.

        Args:
            generator: In eval mode.
            seed: Of the first image; the others follow.
            num_samples: How many images; the fewer, the larger the distance comes out.
        """
        images = generate(generator, range(seed, seed + num_samples))
        return self.distance(images, generator.value_range)

    def ceiling(self, generator: Generator, seed: int = 0, num_samples: int = 2000) -> float:
        """The score of a generator of the same spec that has learnt nothing."""
        with own_randomness():
            seed_step(seed, -1)
            untrained: Generator = generator.spec.build().eval()
        return self.score(untrained, seed, num_samples)

    def distance(self, images: Float[Tensor, "n c h w"], value_range: str = "symmetric") -> float:
        """The Fréchet distance of images from the training digits."""
        return frechet_distance(*self.real, *gaussian_of(self.features(images, value_range)))

    def classify(self, images: Float[Tensor, "n c h w"], value_range: str = "symmetric") -> Int64[Tensor, " n"]:
        """Which digit each image shows."""
        logits: Tensor = self.network.head(self.features(images, value_range))
        return logits.argmax(dim=1)

    def votes(self, images: Float[Tensor, "n c h w"], value_range: str = "symmetric") -> Int64[Tensor, " 10"]:
        """How many of the images show each digit."""
        return torch.bincount(self.classify(images, value_range), minlength=10)

    @torch.no_grad()
    def features(self, images: Float[Tensor, "n c h w"], value_range: str = "symmetric") -> Float[Tensor, "n f"]:
        """What the classifier sees of images of any size, before it decides."""
        seen = (_seen(to_symmetric(part.detach().cpu().float(), value_range)) for part in torch.split(images, CHUNK))
        return torch.cat([self.network.features(part) for part in seen])


class Classifier(nn.Module):
    """Three convolutions: grey images [B,1,16,16] -> features [B,32] -> logits [B,10]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(64 * (SIDE // 4) ** 2, FEATURES), nn.ReLU()),
        )
        self.head = nn.Linear(FEATURES, 10)

    def forward(self, images: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 10"]:
        logits: Tensor = self.head(self.features(images))
        return logits


def fit(network: Classifier, images: Tensor, labels: Tensor, draws: np.random.Generator) -> None:
    """Train with small shifts, the learning rate falling to zero."""
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    steps = list(_shuffled(len(images), draws))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(steps))
    for chosen in steps:
        shift = tuple(int(number) for number in draws.integers(-1, 2, size=2))
        shifted = torch.roll(images[chosen], shift, dims=(2, 3))
        loss = F.cross_entropy(network(shifted), labels[chosen])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    network.eval().requires_grad_(False)


def _shuffled(count: int, draws: np.random.Generator, batch_size: int = 64) -> Iterator[Tensor]:
    for _ in range(EPOCHS):
        yield from torch.split(torch.from_numpy(draws.permutation(count)), batch_size)


def _seen(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    """Images as the classifier looks at them: grey, 16x16."""
    grey = images.mean(dim=1, keepdim=True)
    return (
        grey if grey.shape[2:] == (SIDE, SIDE) else F.interpolate(grey, (SIDE, SIDE), mode="bilinear", antialias=True)
    )

"""The digit score: the Fréchet distance between generated and real digits, in the features of a small classifier.

FID, Heusel et al. 2017, https://arxiv.org/abs/1706.08500, with a classifier of digits, trained on the spot, in place of
Inception. Scores are comparable with each other, not with FID.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from assemblies import Generator
from blocks.metric.frechet import frechet_distance, gaussian_of
from ganblocks.data.digits import digits
from ganblocks.pixels import from_bytes, to_symmetric
from ganblocks.randomness import fork_rng, seed_step
from ganblocks.sampling.generate import generate

SIDE = 16  # pixels of the classifier's input
FEATURES = 32
EPOCHS = 12
CHUNK = 512


class DigitScore:
    """A classifier of the built-in digits, trained in seconds on a CPU, and the Fréchet distance in its features.

    Args:
        resolution: Height and width of the images to evaluate; real digits are resized alike.
        seed: Random seed of the classifier's weights and training.

    Attributes:
        accuracy: Accuracy of the classifier on held-out digits, 0 to 1.
        floor: The distance of the 360 held-out digits from the training digits. So few samples increase it a little.
    """

    def __init__(self, resolution: int | tuple[int, int] = 32, seed: int = 0) -> None:
        train, held_out = (digits(split, resolution) for split in ("train", "held-out"))
        assert train.labels is not None
        assert held_out.labels is not None
        real, unseen = (from_bytes(each.pixels, "symmetric") for each in (train, held_out))
        with fork_rng():
            seed_step(seed, -1)
            self.network = Classifier()
            threads = torch.get_num_threads()
            torch.set_num_threads(1)  # more threads do not speed up so small a network, and slow it on a busy machine
            fit(self.network, _inputs(real), train.labels, np.random.default_rng(seed))
            torch.set_num_threads(threads)
        self.real = gaussian_of(self.features(real))
        self.accuracy = (self.classify(unseen) == held_out.labels).double().mean().item()
        self.floor = self.distance(unseen)

    def score(self, generator: Generator, seed: int = 0, num_samples: int = 2000) -> float:
        """The distance of a generator's images from the training digits; lower is better, `floor` is about the best.

        Args:
            generator: In eval mode.
            seed: Seed of the first image; the others count up.
            num_samples: Number of images; fewer images increase the distance.
        """
        images = generate(generator, range(seed, seed + num_samples))
        return self.distance(images, generator.value_range)

    def ceiling(self, generator: Generator, seed: int = 0, num_samples: int = 2000) -> float:
        """The score of an untrained generator of the same spec."""
        with fork_rng():
            seed_step(seed, -1)
            untrained: Generator = generator.spec.build().eval()
        return self.score(untrained, seed, num_samples)

    def distance(self, images: Float[Tensor, "n c h w"], value_range: str = "symmetric") -> float:
        """The Fréchet distance of images [n,c,h,w] from the training digits."""
        return frechet_distance(*self.real, *gaussian_of(self.features(images, value_range)))

    def classify(self, images: Float[Tensor, "n c h w"], value_range: str = "symmetric") -> Int64[Tensor, " n"]:
        """The digit that each image shows, 0 to 9."""
        logits: Tensor = self.network.head(self.features(images, value_range))
        return logits.argmax(dim=1)

    def votes(self, images: Float[Tensor, "n c h w"], value_range: str = "symmetric") -> Int64[Tensor, " 10"]:
        """The number of images that show each digit."""
        return torch.bincount(self.classify(images, value_range), minlength=10)

    @torch.no_grad()
    def features(self, images: Float[Tensor, "n c h w"], value_range: str = "symmetric") -> Float[Tensor, "n f"]:
        """The classifier's features of images of any size."""
        inputs = (
            _inputs(to_symmetric(part.detach().cpu().float(), value_range)) for part in torch.split(images, CHUNK)
        )
        return torch.cat([self.network.features(part) for part in inputs])


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
    """Train with random shifts of up to one pixel and a learning rate that falls to zero."""
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


def _inputs(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    """The classifier's input: grey images of 16x16 pixels."""
    grey = images.mean(dim=1, keepdim=True)
    return (
        grey if grey.shape[2:] == (SIDE, SIDE) else F.interpolate(grey, (SIDE, SIDE), mode="bilinear", antialias=True)
    )

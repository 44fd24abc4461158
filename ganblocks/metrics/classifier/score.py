"""The Fréchet distance in the features of a small classifier of a data set, trained at the first use.

FID, Heusel et al. 2017, https://arxiv.org/abs/1706.08500, with the classifier in place of Inception. Scores are
comparable with each other, not with FID.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from assemblies import Generator
from blocks.metric.frechet import frechet_distance, gaussian_of
from ganblocks.metrics.classifier.network import Classifier
from ganblocks.pixels import to_symmetric
from ganblocks.randomness import fork_rng, seed_step
from ganblocks.sampling.generate import generate

CHUNK = 512


class ClassifierScore:
    """A classifier of a data set's classes, and the Fréchet distance in its features.

    Args:
        network: The trained classifier.
        train: Images in [-1,1] that it was trained on, which generated images are compared with.
        held_out: Images that neither it nor a generator was trained on.
        held_out_labels: Their classes.

    Attributes:
        train: Features of the training images.
        held_out: Features of the held-out images.
        accuracy: Accuracy of the classifier on held-out images, 0 to 1.
        floor: The distance of the held-out images from the training images. The fewer they are, the larger it is.
    """

    def __init__(
        self,
        network: Classifier,
        train: Float[Tensor, "n c h w"],
        held_out: Float[Tensor, "m c h w"],
        held_out_labels: Int64[Tensor, " m"],
    ) -> None:
        self.network = network
        self.train, self.held_out = self.features(train), self.features(held_out)
        self.real = gaussian_of(self.train)
        self.accuracy = (network.head(self.held_out).argmax(dim=1) == held_out_labels).double().mean().item()
        self.floor = frechet_distance(*self.real, *gaussian_of(self.held_out))

    def score(self, generator: Generator, seed: int = 0, num_samples: int = 2000) -> float:
        """The distance of a generator's images from the training images; lower is better, `floor` is about the best.

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
        """The Fréchet distance of images [n,c,h,w] from the training images."""
        return frechet_distance(*self.real, *gaussian_of(self.features(images, value_range)))

    def classify(self, images: Float[Tensor, "n c h w"], value_range: str = "symmetric") -> Int64[Tensor, " n"]:
        """The class that each image shows."""
        logits: Tensor = self.network.head(self.features(images, value_range))
        return logits.argmax(dim=1)

    def votes(self, images: Float[Tensor, "n c h w"], value_range: str = "symmetric") -> Int64[Tensor, " classes"]:
        """The number of images that show each class."""
        return torch.bincount(self.classify(images, value_range), minlength=self.network.head.out_features)

    @torch.no_grad()
    def features(self, images: Float[Tensor, "n c h w"], value_range: str = "symmetric") -> Float[Tensor, "n f"]:
        """The classifier's features of images of any size."""
        parts = (to_symmetric(part.detach().cpu().float(), value_range) for part in torch.split(images, CHUNK))
        return torch.cat([self.network.features(self.network.inputs(part)) for part in parts])

"""A small convolutional classifier of images, and its training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

BATCH_SIZE = 64


class Classifier(nn.Module):
    """Convolutions with max pooling between them: images [B,K,side,side] -> features [B,F] -> logits [B,classes].

    Args:
        image_channels: Channels K of the images.
        side: Their height and width in pixels; divisible by two as often as there is pooling.
        widths: Channels of the convolutions.
        num_features: Number of features F.
        num_classes: Number of classes.
        batch_norm: Whether each layer is followed by a batch norm.
    """

    def __init__(
        self,
        image_channels: int,
        side: int,
        widths: Sequence[int],
        num_features: int,
        num_classes: int,
        *,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        in_dim = image_channels
        for number, width in enumerate(widths):
            layers += [nn.MaxPool2d(2)] if number else []
            layers += [nn.Conv2d(in_dim, width, 3, padding=1), *([nn.BatchNorm2d(width)] if batch_norm else [])]
            layers.append(nn.ReLU())
            in_dim = width
        pixels = (side >> (len(widths) - 1)) ** 2
        layers += [nn.Flatten(), nn.Linear(in_dim * pixels, num_features)]
        layers += [*([nn.BatchNorm1d(num_features)] if batch_norm else []), nn.ReLU()]
        self.image_channels, self.side = image_channels, side
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(num_features, num_classes)

    def forward(self, images: Float[Tensor, "b k h w"]) -> Float[Tensor, "b classes"]:
        logits: Tensor = self.head(self.features(images))
        return logits

    def inputs(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k side side"]:
        """Images in [-1,1] of any size, resized; the mean of their channels for a classifier of grey images."""
        if self.image_channels == 1:
            images = images.mean(dim=1, keepdim=True)
        size = (self.side, self.side)
        return images if images.shape[2:] == size else F.interpolate(images, size, mode="bilinear", antialias=True)


@torch.enable_grad()
def fit(
    network: Classifier,
    images: Float[Tensor, "n k side side"],
    labels: Int64[Tensor, " n"],
    draws: np.random.Generator,
    *,
    epochs: int,
    lr: float,
    max_shift: int,
    flip: bool = False,
) -> None:
    """Train with Adam at a learning rate that falls to zero; each batch is shifted, and mirrored with probability 1/2.

    Args:
        network: The classifier; in eval mode and without gradients afterwards.
        images: Its inputs.
        labels: Their classes.
        draws: Random numbers of batches and changes.
        epochs: Number of passes over the images.
        lr: Learning rate at the start.
        max_shift: Largest shift, in pixels.
        flip: Whether batches are mirrored.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more threads do not speed up so small a network, and slow it on a busy machine
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    steps = list(_shuffled(len(images), epochs, draws))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(steps))
    for chosen in steps:
        shift = tuple(int(number) for number in draws.integers(-max_shift, max_shift + 1, size=2))
        changed = torch.roll(images[chosen], shift, dims=(2, 3))
        if flip and draws.random() < 0.5:
            changed = changed.flip(3)
        loss = F.cross_entropy(network(changed), labels[chosen])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    torch.set_num_threads(threads)
    network.eval().requires_grad_(False)


def _shuffled(count: int, epochs: int, draws: np.random.Generator) -> Iterator[Tensor]:
    for _ in range(epochs):
        yield from torch.split(torch.from_numpy(draws.permutation(count)), BATCH_SIZE)

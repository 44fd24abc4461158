"""The emoji score: distances, precision and recall in the features of a classifier of the groups of emoji."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import NonNegativeInt
from safetensors.torch import load_file, save
from torch import Tensor

from blocks.families import FeatureSet, GeneratedBatch, Metric
from blocks.metric.frechet import frechet_distance
from ganblocks.data.dataset import Images
from ganblocks.data.sources import open_data
from ganblocks.metrics.classifier.distances import kernel_distance, precision_and_recall, share_within
from ganblocks.metrics.classifier.network import Classifier, fit
from ganblocks.metrics.classifier.score import ClassifierScore
from ganblocks.pixels import from_bytes
from ganblocks.randomness import fork_rng, seed_step
from registry.cache_folder import folder
from registry.spec_file import write_atomically

GROUPS = 9
SIDE = 32  # pixels of the classifier's input
WIDTHS = (16, 32, 64, 64)
FEATURES = 64
EPOCHS = 16


class EmojiScore(ClassifierScore):
    """A classifier of the groups of OpenMoji, trained in a minute on a CPU once, and distances in its features.

    Its weights are kept in the cache. The training images are those of `--data emoji`, in all skin tones.

    Args:
        resolution: Height and width of the images to evaluate; real emoji are rendered alike.
        seed: Random seed of the classifier's weights and training.
        train: The images to compare with, with 9 classes; by default those of `emoji`.
        held_out: The images of the floor; by default those of `emoji?split=held-out`.

    Attributes:
        sha256: Hash of the classifier's weights.

    Raises:
        DataError: The packages of the extra `emoji` are missing.
    """

    def __init__(
        self,
        resolution: int | tuple[int, int] = SIDE,
        seed: int = 0,
        *,
        train: Images | str | Path = "emoji",
        held_out: Images | str | Path = "emoji?split=held-out",
    ) -> None:
        size = (resolution, resolution) if isinstance(resolution, int) else (resolution[0], resolution[1])
        opened = [open_data(each, resolution=size, cond_dim=GROUPS) for each in (train, held_out)]
        real, unseen = (from_bytes(torch.stack([*map(each.read, range(len(each)))]), "symmetric") for each in opened)
        labels, unseen_labels = (each.labels for each in opened)
        assert labels is not None
        assert unseen_labels is not None
        settings = [opened[0].fingerprint, size, seed, SIDE, WIDTHS, FEATURES, EPOCHS]
        name = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
        file = folder() / "metrics" / f"emoji-classifier-{name}.safetensors"
        with fork_rng():
            seed_step(seed, -1)
            network = Classifier(3, SIDE, WIDTHS, FEATURES, GROUPS, batch_norm=True)
            if file.exists():
                network.load_state_dict(load_file(file))
                network.eval().requires_grad_(False)
            else:
                draws = np.random.default_rng(seed)
                fit(network, network.inputs(real), labels, draws, epochs=EPOCHS, lr=2e-3, max_shift=2, flip=True)
                file.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(file, save(network.state_dict()))
        self.sha256 = hashlib.sha256(save(network.state_dict())).hexdigest()
        super().__init__(network, real, unseen, unseen_labels)

    def values(self, features: Float[Tensor, "n f"], distance: float) -> dict[str, float]:
        """All numbers of generated images.

        Args:
            features: Their features.
            distance: Their Fréchet distance from the training images.
        """
        precision, recall = precision_and_recall(features, self.train)
        return {
            "emoji": distance,
            "emoji_kernel": kernel_distance(features, self.train),
            "emoji_precision": precision,
            "emoji_recall": recall,
            "emoji_recall_held_out": share_within(self.held_out, features),
            "emoji_floor": self.floor,
        }


class EmojiDistance(Metric, kind="emoji"):
    """The Fréchet distance from OpenMoji in the features of a classifier of its groups; lower is better.

    Beside it: the kernel distance; precision and recall by nearest neighbours; the recall of held-out drawings, which a
    generator that repeats its training images does not reach; and the floor, the Fréchet distance of the held-out
    drawings from the training drawings. The classifier is trained in a minute at the first use, and cached. Images are
    not quantised, and noise is constant.

    Args:
        seed: Random seed of the classifier.
    """

    uses_reference: ClassVar[bool] = False
    exact: ClassVar[bool] = True
    min_images = 4

    def __init__(self, *, seed: NonNegativeInt = 0) -> None:
        super().__init__()
        self.seed = seed
        self.judge: EmojiScore | None = None

    def measure(self, batch: GeneratedBatch) -> Float[Tensor, "b f"]:
        images = batch.exact_images(batch.styles(batch.z))
        if self.judge is None:
            self.judge = EmojiScore((images.shape[2], images.shape[3]), self.seed)
        return self.judge.features(images / 127.5 - 1)

    def forward(self, generated: FeatureSet, reference: FeatureSet | None) -> dict[str, float]:
        assert self.judge is not None
        assert generated.features is not None
        distance = frechet_distance(*self.judge.real, generated.mean, generated.covariance)
        return self.judge.values(generated.features, distance)

    def record(self) -> dict[str, Any]:
        sha256 = {} if self.judge is None else {"sha256": self.judge.sha256}
        return super().record() | {"features": FEATURES, **sha256}

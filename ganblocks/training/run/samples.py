"""Images of fixed latents by the averaged generator, with every log line: a picture, and how much they differ."""

from __future__ import annotations

import torch
from torch import Tensor

from blocks.families import FeatureExtractor
from blocks.weight_norm.converge import converged_weight_norms
from ganblocks.data.dataset import Images
from ganblocks.data.encoded.pictures import pictures_of
from ganblocks.data.skipped import UnreadableError
from ganblocks.errors import DataError
from ganblocks.pixels import to_bytes
from ganblocks.sampling.generate import generate
from ganblocks.sampling.grids import save_grid
from ganblocks.sampling.pictures import made_by
from ganblocks.training.conditions import ConditionEncoder
from ganblocks.training.logs.collapse import diversity
from ganblocks.training.logs.trackers import Trackers
from ganblocks.training.run.folder import RunFolder, disk_errors
from ganblocks.training.trainer import Trainer

MAX_SAMPLES = 64


class Samples:
    """Draws the samples of a run.

    Args:
        folder: The run folder.
        trainer: The training.
        images: The data set.
        conditions: Encodes captions.
        trackers: Get the pictures too.
        command: Command line for the pictures' metadata.
        extractor: Features in which images are compared; None for thumbnails.
    """

    def __init__(
        self,
        folder: RunFolder,
        trainer: Trainer,
        images: Images,
        conditions: ConditionEncoder,
        trackers: Trackers,
        command: str,
        extractor: FeatureExtractor | None,
    ) -> None:
        self.folder, self.trainer, self.images, self.conditions = folder, trainer, images, conditions
        self.trackers, self.command = trackers, command
        channels, *sides = trainer.generator.picture_shape
        self.extractor = extractor if channels == 3 else None
        self.count = MAX_SAMPLES if max(sides) <= 128 else MAX_SAMPLES // 4
        self.real_diversity: float | None = None

    def draw(self, *, compare: bool) -> dict[str, float]:
        """Write a picture of the samples.

        Args:
            compare: Whether to compute how much they differ.

        Returns:
            `collapse/diversity`: the mean distance of two samples as a fraction of that of two real images.
        """
        generator, count = self.trainer.generator_ema, self.count
        path = self.folder.samples / f"{self.trainer.images / 1000:010.3f}kimg.png"
        c = generator.condition_of(self.images.first_captions(count)) if self.conditions.takes_captions else None
        with converged_weight_norms(generator):
            samples = generate(generator, range(count), c=c)
        with disk_errors(path, samples.numel()):
            save_grid(samples, path, value_range=generator.value_range, metadata=made_by(generator, self.command))
        self.trackers.picture(path, self.trainer.images)
        if not compare or not samples.isfinite().all():
            return {}
        if self.real_diversity is None:
            self.real_diversity = self.diversity_of_real()
        of_samples = diversity(to_bytes(samples, generator.value_range), self.extractor)
        return {"collapse/diversity": of_samples / self.real_diversity} if self.real_diversity else {}

    def diversity_of_real(self) -> float:
        """The mean distance of real images, evenly spaced over the data set; 0 if fewer than two can be read."""
        read: list[Tensor] = []
        try:
            pictures = pictures_of(self.images, self.trainer.generator_ema)
        except DataError:  # latents that nothing here decodes
            return 0.0
        for index in pictures.spread(self.count):
            try:
                read.append(pictures.read(index))
            except UnreadableError:
                continue
        if len(read) < 2:
            return 0.0
        return diversity(torch.stack(read).to(self.trainer.distributed.device), self.extractor)

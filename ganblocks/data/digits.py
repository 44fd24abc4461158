"""The built-in data set of handwritten digits, with classes and captions.

UCI ML hand-written digits (Kaynak 1995) as scikit-learn ships them: 1,797 grey images of 8x8 pixels.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from ganblocks.data.captions import Captions
from ganblocks.data.dataset import ImagesInMemory
from ganblocks.errors import DataError

NUM_TRAIN_DIGITS = 1437
DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CAPTION_TEMPLATES = (
    "a handwritten {}",
    "the digit {}",
    "a picture of a {}",
    "the number {} written by hand",
    "{}",
)


def digits(
    split: Literal["train", "held-out"],
    resolution: int | tuple[int, int] = 8,
    image_channels: int = 1,
    *,
    labelled: bool = True,
) -> ImagesInMemory:
    """Handwritten digits, white on black, resized with bicubic interpolation and padded to the resolution.

    The split is fixed: 1,437 images to train with, 360 held out.

    Args:
        split: Which part.
        resolution: Height and width in pixels; one number for a square.
        image_channels: 1 for grey, 3 for grey as RGB.
        labelled: Whether the images have their digits as class labels.

    Raises:
        DataError: `image_channels` is neither 1 nor 3.
    """
    from sklearn.datasets import load_digits  # here, because it takes a second to import

    if image_channels not in (1, 3):
        raise DataError(f"digits: images of 1 channel (grey) or 3 (grey as RGB) are available, not {image_channels}")
    raw, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(raw))
    rows = order[:NUM_TRAIN_DIGITS] if split == "train" else order[NUM_TRAIN_DIGITS:]
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    side = min(height, width)
    values = torch.from_numpy(raw[rows].reshape(-1, 1, 8, 8)).float() * (255 / 16)
    if side != 8:
        values = F.interpolate(values, (side, side), mode="bicubic", antialias=side < 8)
    top, left = (height - side) // 2, (width - side) // 2
    values = F.pad(values, (left, width - side - left, top, height - side - top))
    pixels = values.round().clamp(0, 255).to(torch.uint8).expand(-1, image_channels, -1, -1).contiguous()
    labels = torch.from_numpy(classes[rows]).long() if labelled else None
    return ImagesInMemory(pixels, name="digits", labels=labels, class_names=tuple("0123456789"))


def digit_captions(digit: int) -> Captions:
    """Captions that describe a handwritten digit."""
    return tuple(template.format(DIGIT_WORDS[digit]) for template in CAPTION_TEMPLATES)

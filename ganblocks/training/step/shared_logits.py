"""Logits that the discriminator's loss shares with R1 and R2 of every step: one pass of each image serves both.

Values and gradients are those of two passes.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from blocks.families import Batch
from ganblocks.precision import Precision
from ganblocks.training.optimizer import NamedRegularizer


def shared_images(
    regularizers: Iterable[NamedRegularizer], augment: object, precision: Precision, compiled: bool
) -> list[str]:
    """Which images, "real" and "fake", regularizers take the gradient at by the logits of the loss.

    None where a pass of the loss is not one of the penalty: with augmentation, which each pass draws anew, and where
    only the penalty is in float32 or uncompiled.
    """
    if not isinstance(augment, nn.Identity) or precision != "fp32" or compiled:
        return []
    return sorted({name for each in regularizers if (name := each.regularizer.shared_logits) is not None})


def with_gradients(batch: Batch, images: Iterable[str]) -> Batch:
    """The batch with these images requiring gradients."""
    return batch._replace(**{name: getattr(batch, name).detach().requires_grad_() for name in images})

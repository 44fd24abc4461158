"""How far a training on the built-in digits comes."""

from __future__ import annotations

from pathlib import Path

from ganblocks import DigitScore, train
from registry import Spec


def share_of_the_untrained_score(spec: Spec, out: Path, seed: int) -> float:
    """The digit score after a training, divided by that of the untrained generator."""
    generator = train(spec, data="digits", out=out, seed=seed, quiet=True, no_alarm=True).generator
    score = DigitScore(16)
    return score.score(generator) / score.ceiling(generator, seed)

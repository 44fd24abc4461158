"""StyleGAN-T's whole training as one document: 64 pixels, then the steps of a higher resolution, then the text encoder.

StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section 3; how the phases are run is from the published
code's README and command line.
"""

from __future__ import annotations

from typing import Any

from assemblies.models.stylegan_t.presets import CLIP, FULL, GUIDANCE, LITE, discriminator, generator, trained
from assemblies.multi_stage import MultiStage
from registry import Spec

RATE = 3e-6  # of the text encoder; the discriminator keeps its 0.002 (published code, training loop)
# [P?] the paper is remembered to take far stronger guidance in this phase; the code leaves it to the command line
STRONG_GUIDANCE = 5 * GUIDANCE
# the half-life's ramp-up is switched off where a training goes on from another (published code, training loop)
NO_RAMP: dict[str, Any] = {"ramp_up": None}


def multi_stage(resolution: int, size: dict[str, int]) -> Spec:
    """Three stages that end at a resolution.

    Args:
        resolution: Height and width of the final images, 128 or more.
        size: Width and depth of the generator.
    """
    condition = {
        "kind": "open-clip-text",
        "embed_weights": True,
        **CLIP,
    }  # a part of the model, because it learns at the end
    low = generator(64, cond_dim=768, condition=condition, **size)
    high = generator(resolution, cond_dim=768, condition=condition, **size)

    def gan(made: dict[str, Any], weight: float, **changes: Any) -> dict[str, Any]:
        document = trained(made, discriminator(), guidance={**CLIP, "weight": weight}, blur_kimg=0.0).to_dict()
        return document | {name: document.get(name, {}) | value for name, value in changes.items()}

    first = trained(low, discriminator(), guidance={**CLIP, "weight": GUIDANCE}).to_dict()
    grown = gan(high, GUIDANCE, trainable={"mapping": False, "above": 64}, ema=NO_RAMP)
    phase = {"mapping": False, "synthesis": False, "condition": True, "above": 0}
    tuned = gan(high, STRONG_GUIDANCE, trainable=phase, generator_optimizer={"lr": RATE}, ema=NO_RAMP)
    return MultiStage.Spec(
        stages=[
            {"name": "low", "gan": first},
            {"name": "high", "gan": grown},
            {"name": "text-encoder", "gan": tuned},
        ]
    )


def stylegan_t_lite_multi_stage_256() -> Spec:
    """StyleGAN-T, light, in three stages: 64 px, grown to 256 px with what it has frozen, then its text encoder."""
    return multi_stage(256, LITE)


def stylegan_t_multi_stage_512() -> Spec:
    """StyleGAN-T in three stages: 64 px, grown to 512 px with what it has frozen, then its text encoder."""
    return multi_stage(512, FULL)

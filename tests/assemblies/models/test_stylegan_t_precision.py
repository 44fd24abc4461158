"""StyleGAN-T's generator in bfloat16 autocast."""

from __future__ import annotations

import torch

from assemblies import LayeredGenerator, parse
from assemblies.models.stylegan_t import presets as stylegan_t
from blocks import noise_mode


def test_bfloat16_changes_images_by_less_than_a_grey_level() -> None:
    torch.manual_seed(0)
    size = {"channel_base": 1024, "channel_max": 64, "num_pairs": 2}
    generator = parse(stylegan_t.generator(32, cond_dim=8, **size), LayeredGenerator).build().eval()
    z, c = torch.randn(4, generator.z_dim), torch.randn(4, 8) / 8**0.5
    with torch.no_grad(), noise_mode("const"):
        expected = generator(z, c)
        with torch.autocast("cpu", torch.bfloat16):
            actual = generator(z, c)
    assert (expected - actual).abs().mean() < 2 / 255

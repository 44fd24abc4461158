"""The hybrids of examples/hybrids: each is a valid document, and trains on digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assemblies import check, read
from ganblocks import train
from plugins.clip_towers import TINY

HYBRIDS = sorted((Path(__file__).parents[2] / "examples" / "hybrids").glob("*.yaml"))
TEXT = {"kind": "open-clip-text", "model": TINY, "weights": None, "embed_weights": True}
# small networks with random weights in place of DINO and CLIP, whose weights would be downloaded
WITHOUT_DOWNLOADS = {
    "stylenat-stylegan-t": [
        "discriminator.networks.0.weights=null",
        "discriminator.networks.0.image_size=32",
        "discriminator.networks.0.depths=[1, 2, 0]",
        "discriminator.networks.0.arguments={embed_dim: 16, depth: 2, num_heads: 2, patch_size: 8}",
    ],
    "text-stylenat": [
        f"generator.condition={json.dumps(TEXT)}",
        f"generator.w_dim={64 + TINY['embed_dim']}",
    ],
}


@pytest.mark.parametrize("file", HYBRIDS, ids=lambda file: file.stem)
def test_a_hybrid_says_what_it_is_and_fits_together(file):
    assert file.read_text(encoding="utf-8").startswith("# ")
    traces = check(read(file, settings=WITHOUT_DOWNLOADS.get(file.stem, ())))
    assert traces["discriminator"].complete


@pytest.mark.slow
@pytest.mark.parametrize("file", HYBRIDS, ids=lambda file: file.stem)
def test_a_hybrid_trains_on_digits(file, tmp_path):
    settings = [*WITHOUT_DOWNLOADS.get(file.stem, ()), "batch_size=8", "ema={half_life_kimg: 0.001}"]
    spec = read(file, settings=settings)
    run = train(spec, data="digits", out=tmp_path, kimg=0.024, log_every_kimg=0.012, quiet=True, workers=0)
    losses = [loss for tick in run.log for loss in tick["losses"].values()]
    assert losses
    assert np.isfinite(losses).all()
    first, *_, last = (np.asarray(Image.open(file)) for file in sorted((tmp_path / "samples").iterdir()))
    assert (first != last).mean() > 0.05, "samples change"

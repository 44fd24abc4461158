"""The CLIP score of a text-conditional model, whose captions are drawn from the data."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from assemblies import load_model, parse, save_model
from ganblocks.data.digits import DIGIT_WORDS
from ganblocks.data.sources import open_data
from ganblocks.errors import DataError
from ganblocks.metrics.conditions import Conditions
from ganblocks.metrics.evaluate import evaluate
from ganblocks.metrics.generated import generated_batches
from ganblocks.metrics.protocols import PROTOCOLS
from plugins import clip_towers
from plugins.clip_towers import TINY
from tests import tiny


@pytest.fixture
def text_model(tmp_path, monkeypatch):
    """A generator with the text encoder of a small CLIP, whose file lies in GANBLOCKS_WEIGHTS."""
    torch.manual_seed(0)
    clip = clip_towers.open_clip().model.CLIP(**TINY).eval()
    save_file(clip.state_dict(), tmp_path / "clip.safetensors")
    monkeypatch.setenv("GANBLOCKS_WEIGHTS", str(tmp_path))
    condition = {"kind": "open-clip-text", "model": TINY, "weights": "clip.safetensors"}
    generator = parse(tiny.GENERATOR | {"condition": condition}).build()
    save_model(tmp_path / "model.safetensors", generator)
    return tmp_path / "model.safetensors", clip


def test_it_is_the_mean_cosine_of_images_and_captions(text_model):
    path, clip = text_model
    settings = [f"clip-score.model={TINY}"]
    options = {"settings": settings, "extractor_weights": ["clip-score=clip.safetensors"], "noise": "const"}
    (record,) = evaluate(path, ["clip-score"], "digits", num=20, device="cpu", batch_size=8, **options)
    generator = load_model(path)
    images = open_data("digits", resolution=16, captions=True)
    conditions = Conditions(generator, images, "data", 20, 0)
    protocol = PROTOCOLS["stylegan-full"].with_changes(noise="const")
    cosines = []
    constants = clip_towers.open_clip().constants
    tokenize = clip_towers.open_clip().SimpleTokenizer(context_length=TINY["text_cfg"]["context_length"])
    batches = generated_batches(generator, conditions, range(20), protocol, seed=0, batch_size=20, precision="fp32")
    with torch.no_grad():
        for batch in batches:
            assert all(any(word in caption for word in DIGIT_WORDS) for caption in batch.captions)
            assert len(set(batch.captions)) > 5
            names = ("OPENAI_DATASET_MEAN", "OPENAI_DATASET_STD")
            mean, std = (torch.tensor(getattr(constants, name))[:, None, None] for name in names)
            small = F.interpolate(batch.images / 127.5 - 1, (8, 8), mode="bicubic", antialias=True)
            embeddings = clip.encode_image(((small + 1) / 2 - mean) / std)
            cosines.append(F.cosine_similarity(embeddings, clip.encode_text(tokenize(list(batch.captions)))))
    assert record["value"] == pytest.approx(torch.cat(cosines).mean().item(), rel=1e-4)
    assert len(record["options"]["text_encoder"]["sha256"]) == 64


def test_a_text_model_needs_captions(text_model, with_extractor):
    with pytest.raises(DataError, match="give --data with captions"):
        evaluate(text_model[0], ["digit"], num=20, device="cpu")
    evaluate(text_model[0], ["fid"], "digits", num=20, device="cpu", **with_extractor("fid"))

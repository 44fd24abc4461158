"""Text models whose layers attend to all tokens of a caption: what the tokens are, and a training on digits."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from assemblies import check, load_model, parse
from ganblocks import generate, open_data, train
from plugins.open_clip import TINY, OpenClipText
from registry import IncompatibleError
from tests import tiny

CAPTIONS = ["seven", "a red bird on a wire by the sea"]
CONDITION = {"kind": "open-clip-text", "model": TINY, "weights": None, "embed_weights": True, "tokens": True}
CROSS_ATTENTION = {"kind": "cross-attention", "num_heads": 2}


def text_gan(**changes: Any) -> dict[str, Any]:
    generator, discriminator = copy.deepcopy((tiny.GENERATOR, tiny.DISCRIMINATOR))
    generator |= {"condition": CONDITION, "mapping": {"kind": "text-mapping", "num_heads": 2}, "image_channels": 1}
    generator["synthesis"].insert(2, CROSS_ATTENTION)
    generator["synthesis"].insert(-1, {"kind": "modulated-conv", "num_filters": 2})
    discriminator["steps"].insert(2, CROSS_ATTENTION)
    regularizers = ["matching-aware", {"kind": "r1", "gamma": 1.0, "every": 2}]
    return tiny.gan(generator=generator, discriminator=discriminator, regularizers=regularizers) | changes


def test_tokens_are_projected_like_the_caption_and_zero_after_its_end() -> None:
    torch.manual_seed(0)
    condition = OpenClipText(model=TINY, weights=None, embed_weights=True, tokens=True).eval()
    assert (condition.num_tokens, condition.cond_dim) == (5, 6 * 6)
    ids = condition.read(CAPTIONS)
    c = condition(ids).view(2, 6, 6)
    encoder = condition.tower.encoder
    encoder.output_tokens = False
    torch.testing.assert_close(c[:, 0], F.normalize(encoder(ids), dim=1))
    assert ids[0].argmax() == 2  # start, seven, end
    torch.testing.assert_close(c[0, 3], c[0, 0])  # the caption's embedding is that of its end
    assert (c[0, 4:] == 0).all()
    assert (c[1] != 0).any(dim=1).all()


def test_text_encoders_without_an_end_token_are_refused() -> None:
    model = TINY | {"text_cfg": TINY["text_cfg"] | {"pool_type": "last"}}  # type: ignore[operator, index]
    with pytest.raises(IncompatibleError, match=r"tokens +the ends of captions are known for"):
        OpenClipText(model=model, weights=None, embed_weights=True, tokens=True)


def test_a_model_with_tokens_trains_on_captioned_digits_and_follows_its_tokens(tmp_path: Any) -> None:
    check(parse(text_gan()))
    data = open_data("digits", resolution=16, image_channels=1, cond_dim=36, captions=True)
    trained = train(parse(text_gan()), data=data, out=tmp_path, quiet=True).generator
    again = load_model(tmp_path / "model.safetensors")
    c = trained.condition_of(["a handwritten seven", "a handwritten two"])
    images = generate(trained, [0, 0], c=c)
    torch.testing.assert_close(images, generate(again, [0, 0], c=c))
    assert images.isfinite().all()
    exchanged = torch.cat([c[:, :6], c[:, 6:].flip(0)], dim=1)  # the tokens of the other caption
    assert not torch.allclose(images, generate(trained, [0, 0], c=exchanged))


def test_conditions_and_blocks_that_do_not_fit_are_reported() -> None:
    document = text_gan()
    document["generator"]["mapping"] = "mapping"
    with pytest.raises(IncompatibleError, match="has 5 tokens, which mapping does not take; use text-mapping"):
        check(parse(document))
    del document["generator"]["condition"]
    with pytest.raises(IncompatibleError, match=r"synthesis\.2 +cross-attention needs the tokens of captions; set"):
        check(parse(document))

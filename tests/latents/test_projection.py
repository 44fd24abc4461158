"""Projection finds the style vectors of a generated image."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F

from ganblocks.errors import DataError, UsageError
from ganblocks.latents.project_image import save_projection
from ganblocks.latents.projection import distance, perceptual, project, rate
from ganblocks.sampling.generate import generate
from ganblocks.sampling.grids import save_grid
from registry import SpecError
from tests.extractors import save_extractor, save_lpips


@pytest.mark.parametrize("space", ["w", "w+"])
def test_a_generated_image_is_found(generator, space):
    target = generate(generator, [12345])
    found = project(generator, target, space=space, steps=150, frames=5)
    assert found.psnr > 35
    assert found.losses[-1] < 0.05 * found.losses[0]
    assert len(found.frames) == 5
    spread = (found.ws - found.ws[:, :1]).abs().max()
    assert (spread == 0) == (space == "w")
    torch.testing.assert_close(generator.synthesis(found.ws), found.image, rtol=1e-4, atol=1e-4)


def test_the_same_seed_gives_the_same_projection(generator):
    target = generate(generator, [5])
    first, second = (project(generator, target, steps=5) for _ in range(2))
    assert torch.equal(first.ws, second.ws)
    assert not torch.equal(first.ws, project(generator, target, steps=5, seed=1).ws)


def test_features_enter_the_loss(generator):
    target = generate(generator, [5])
    plain = project(generator, target, steps=2)
    perceptual = project(generator, target, steps=2, features=lambda images: F.avg_pool2d(images, 4).flatten(1))
    assert perceptual.losses[0] > plain.losses[0]


@pytest.mark.parametrize("kind", ["torchscript", "timm", pytest.param("lpips", marks=pytest.mark.slow)])
def test_features_are_chosen_by_their_kind(model, conditional, tmp_path, kind):
    save_grid(generate(conditional, [4]), tmp_path / "image.png", value_range="unit", scale=1)
    settings = {"torchscript": [f"weights={tmp_path / 'extractor.pt'}"]}
    if kind == "torchscript":
        save_extractor(tmp_path / "extractor.pt")
    elif kind == "timm":
        arguments = "{embed_dim: 8, depth: 1, num_heads: 2}"
        settings["timm"] = ["network=vit_tiny_patch16_224", "weights=null", "image_size=32", f"arguments={arguments}"]
    else:
        backbone, lins = save_lpips(tmp_path)
        settings["lpips"] = [f"weights={lins}", f"backbone_weights={backbone}"]
    options = {"steps": 2, "classes": [1], "device": "cpu"}
    plain = save_projection(model, tmp_path / "image.png", tmp_path / "plain", **options)
    record = save_projection(
        model, tmp_path / "image.png", tmp_path / "out", features=kind, settings=settings[kind], **options
    )
    assert record["features"]["kind"] == kind
    assert record["loss"] > plain["loss"]


def test_the_distance_of_lpips_features_is_kept_and_others_have_length_one(generator):
    class Bright(torch.nn.Module):
        kind = "bright"

        def forward(self, images):
            assert images.shape[1] == 3
            assert max(images.shape[2:]) <= 256
            assert images.min() >= 0
            assert images.max() <= 255
            return images.flatten(1)[:, :8]

    extractor, images = Bright(), torch.rand(2, 1, 300, 150) * 2 - 1
    torch.testing.assert_close(perceptual(extractor)(images).norm(dim=1), torch.ones(2))
    extractor.kind = "lpips"
    assert perceptual(extractor)(images).norm(dim=1).min() > 10


def test_the_distance_is_that_of_a_laplacian_pyramid():
    a, b = torch.randn(2, 1, 3, 8, 8, dtype=torch.float64)

    def pyramid(x):
        levels = []
        while x.shape[-1] >= 4:
            coarse = F.avg_pool2d(x, 2)
            levels.append(x - F.interpolate(coarse, scale_factor=2, mode="bilinear"))
            x = coarse
        return [*levels, x]

    parts = [(x - y).square().mean() for x, y in zip(pyramid(a), pyramid(b), strict=True)]
    assert len(parts) == 3
    torch.testing.assert_close(distance(a, b), sum(parts) + (a - b).square().mean())
    assert distance(a, a) == 0


def test_the_rate_rises_and_falls():
    rates = [rate(step / 1000) for step in range(1000)]
    assert max(rates) == pytest.approx(1.0, abs=2e-3)
    assert rates[0] < 0.01
    assert rates[-1] < 0.01
    assert rates[500] == pytest.approx(1.0, abs=2e-3)


def test_a_picture_is_projected_into_a_folder(model, conditional, tmp_path):
    save_grid(generate(conditional, [4]), tmp_path / "image.png", value_range="unit", scale=1)
    options = {"steps": 10, "classes": [1], "device": "cpu", "command": "ganblocks project ..."}
    record = save_projection(model, tmp_path / "image.png", tmp_path / "out", **options)
    files = {path.name for path in (tmp_path / "out").iterdir()}
    video = ["projection.mp4"] if find_spec("av") else []
    assert files == {"ws.safetensors", "projection.png", "projection.gif", "losses.png", *video} == {*record["files"]}
    for name in ("projection.png", "losses.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.text["command"] == "ganblocks project ..."
    ws = load_file(tmp_path / "out" / "ws.safetensors")["ws"]
    assert ws.shape == (1, conditional.num_ws, conditional.w_dim)
    assert record["psnr"] > 10
    with Image.open(tmp_path / "out" / "projection.gif") as animation:
        assert animation.n_frames > 1


def test_what_cannot_be_projected_is_said(model, generator, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    for image, message in [("text.png", "cannot be read as a picture"), ("missing.png", "does not exist")]:
        with pytest.raises(DataError, match=message):
            save_projection(model, tmp_path / image, tmp_path / "out", device="cpu")
    with pytest.raises(UsageError, match="is a file; choose a folder"):
        save_projection(model, tmp_path / "text.png", tmp_path / "text.png", device="cpu")
    options = {"device": "cpu", "features": "timm"}
    with pytest.raises(SpecError, match=r"unknown feature-extractor 'lpip'.*lpips"):
        save_projection(model, tmp_path / "text.png", tmp_path / "out", device="cpu", features="lpip")
    with pytest.raises(SpecError, match="imgsize"):
        save_projection(model, tmp_path / "text.png", tmp_path / "out", settings=["imgsize=3"], **options)
    with pytest.raises(SpecError, match=r"features.backbone_weights.*'absent.pth' does not exist"):
        save_projection(
            model,
            tmp_path / "text.png",
            tmp_path / "out",
            device="cpu",
            features="lpips",
            settings=["backbone_weights=absent.pth"],
        )
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="target of shape"):
        project(generator, torch.zeros(1, 3, 8, 8))

"""Latents from end to end: an autoencoder, its latents in files, a training on them, pictures and a metric."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from assemblies import parse
from assemblies.models.gat import architecture
from blocks import ConvAutoencoder
from blocks.families import Autoencoder
from blocks.regularizer.token_alignment import TINY
from ganblocks import evaluate, generate, train
from ganblocks.data.digits import digits
from ganblocks.data.encoded.encode import encode
from ganblocks.data.encoded.files import open_latents
from ganblocks.data.encoded.pictures import open_pictures, training_images
from ganblocks.data.loader import Sampler, batches
from ganblocks.data.sources import open_data
from ganblocks.errors import DataError, UsageError
from ganblocks.latents.projection import project
from ganblocks.pixels import from_bytes
from ganblocks.sampling.load import load
from ganblocks.sampling.samples import save_samples
from registry import IncompatibleError
from tests.extractors import save_extractor

OPTIONS: dict[str, Any] = {"image_channels": 1, "latent_channels": 4, "downsampling": 4, "dim": 8}
STEPS = 70
GAT: dict[str, Any] = {
    "input_size": 4,
    "patch_size": 2,
    "in_channels": 4,
    "latent_size": 8,
    "cmap_dim": 12,
    "z_dim": 4,
    "projector_dim": 8,
    "hidden_size": 16,
    "depth": 4,
    "num_heads": 2,
    "mlp_ratio": 4.0,
    "num_classes": 10,
    "qk_norm": True,
}


def trained_autoencoder() -> ConvAutoencoder:
    """A small autoencoder of the digits at 16 px."""
    torch.manual_seed(0)
    pixels = from_bytes(digits("train", (16, 16), 1, labelled=False).pixels, "symmetric")
    network = ConvAutoencoder(**OPTIONS)
    adam = torch.optim.Adam(network.parameters(), lr=8e-3)
    for _ in range(STEPS):
        image = pixels[torch.randint(len(pixels), (32,))]
        mean, deviation = network.moments(image).chunk(2, dim=1)
        decoded = network.decode(mean + deviation * torch.randn_like(mean))
        divergence = (mean.square() + deviation.square() - 2 * deviation.log()).mean()
        loss = (decoded - image).square().mean() + 1e-4 * divergence
        adam.zero_grad()
        loss.backward()
        adam.step()
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of an autoencoder, `vae.safetensors`, and `latents` of the digits with their images and classes."""
    folder = tmp_path_factory.mktemp("latents")
    save_file(trained_autoencoder().state_dict(), folder / "vae.safetensors")
    encode("digits", folder / "latents", spec(folder), resolution=16, num_classes=10, keep_images=True, shard_size=600)
    return folder


def spec(folder: Path, **changes: Any) -> Any:
    options = {"kind": "conv-autoencoder", **OPTIONS, "weights": str(folder / "vae.safetensors"), "scaling_factor": 0.8}
    return parse(options | changes, Autoencoder)


def document(folder: Path, **changes: Any) -> dict[str, Any]:
    """A GAT on the latents, aligned with a teacher."""
    return {
        "kind": "gan",
        "generator": {**architecture.generator_spec(GAT).to_dict(), "decoder": spec(folder).to_dict()},
        "discriminator": architecture.discriminator_spec(GAT).to_dict(),
        "loss": "relativistic",
        "regularizers": ["approximate-r1", "approximate-r2", {"kind": "token-alignment", "teacher": TINY}],
        "augment": {"kind": "diffaugment", "policy": ["translation", "flip"], "color_reference": 4},
        "batch_size": 16,
        "kimg": 0.064,
        **changes,
    }


def test_latents_decode_to_the_images_that_they_encode(folder: Path) -> None:
    latents = open_latents(folder / "latents")
    original = digits("train", (16, 16), 1, labelled=True)
    assert len(latents) == len(original)
    assert [shard.num_images for shard in latents.manifest.shards] == [600, 600, 237]
    assert torch.equal(latents.labels, original.labels)  # type: ignore[arg-type]
    latents.reads_images = True
    network = spec(folder).build()
    errors, spread = [], []
    for index in (0, 599, 600, 1436):
        assert torch.equal(latents.encoded_image(index), original.pixels[index])  # type: ignore[arg-type]
        mean, _ = latents.read(index)[None].chunk(2, dim=1)
        image = from_bytes(original.pixels[index][None], "symmetric")
        decoded = network(0.8 * mean)
        errors.append((decoded - image).square().mean().item())
        spread.append((image - image.mean()).square().mean().item())
    assert sum(errors) < 0.25 * sum(spread)


def test_each_batch_draws_latents_of_the_moments(folder: Path) -> None:
    latents = open_latents(folder / "latents")
    latents.reads_images = True
    stream = batches(latents, Sampler(len(latents), 0), position=0, batch_size=64)
    batch = next(stream)
    mean, deviation = batch.images.chunk(2, dim=1)
    torch.manual_seed(0)
    first, pixels = training_images(batch, latents, "symmetric")
    second, _ = training_images(batch, latents, "symmetric")
    assert pixels is not None
    assert pixels.shape == (64, 1, 16, 16)
    scores = torch.stack([first / 0.8 - mean, second / 0.8 - mean]) / deviation
    assert scores.std().item() == pytest.approx(1, abs=0.03)
    assert not torch.equal(first, second)


def test_a_training_on_latents_draws_pictures_and_is_measured_on_them(folder: Path, tmp_path: Path) -> None:
    extractor = {"kind": "torchscript", "weights": str(save_extractor(tmp_path / "extractor.pt"))}
    metric = {"kind": "fid", "extractor": extractor, "num": 40, "every_kimg": 0.064}
    options: dict[str, Any] = {"quiet": True, "device": "cpu", "workers": 0, "log_every_kimg": 0.032}
    run = train(document(folder, metrics=[metric]), str(folder / "latents"), tmp_path / "run", **options)
    assert 0 < run.log[-1]["losses"]["token-alignment"] < 4
    with Image.open(next((tmp_path / "run" / "samples").iterdir())) as picture:
        assert picture.width > 8 * 16
    generator = load(tmp_path / "run")
    image = generate(generator, range(2))
    assert image.shape == (2, 1, 16, 16)
    ws = generator.mapping(torch.randn(2, 8), torch.eye(10)[:2])
    torch.testing.assert_close(generator.decode(generator.synthesis(ws)), generator.decoder(generator.synthesis(ws)))
    save_samples(tmp_path / "run", range(4), tmp_path / "grid.png", device="cpu")
    (record,) = evaluate(
        tmp_path / "run",
        ["fid"],
        num=40,
        device="cpu",
        settings=["fid.extractor=torchscript"],
        extractor_weights=[f"torchscript={extractor['weights']}"],
        no_cache=True,
    )
    in_training = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert record["value"] == pytest.approx(in_training["value"], rel=1e-3)
    assert record["reference"]["resolution"] == [16, 16]
    with_pictures = evaluate(
        tmp_path / "run",
        ["fid"],
        "digits",
        num=40,
        device="cpu",
        settings=["fid.extractor=torchscript"],
        extractor_weights=[f"torchscript={extractor['weights']}"],
        no_cache=True,
    )
    assert with_pictures[0]["value"] == pytest.approx(record["value"], rel=1e-3), "the encoded images are the digits"


def test_model_files_contain_a_decoder_and_need_no_other_file(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "vae.safetensors")
    run = train(document(folder, kimg=0.016), str(folder / "latents"), tmp_path / "run", quiet=True, workers=0)
    (folder / "vae.safetensors").rename(folder / "moved.safetensors")
    try:
        generator = load(tmp_path / "run")
    finally:
        (folder / "moved.safetensors").rename(folder / "vae.safetensors")
    state = generator.decoder.state_dict()
    assert all(torch.equal(state[name], value) for name, value in weights.items()), "the decoder is not trained"
    assert not any(parameter.requires_grad for parameter in run.generator.decoder.parameters())


@pytest.mark.slow
def test_a_resumed_training_on_latents_repeats_the_uninterrupted_one(folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"quiet": True, "device": "cpu", "workers": 0}
    whole = train(document(folder, kimg=0.048), str(folder / "latents"), tmp_path / "whole", **options)
    train(document(folder, kimg=0.016), str(folder / "latents"), tmp_path / "parts", **options)
    parts = train(out=tmp_path / "parts", resume=True, kimg=0.048, **options)
    state = parts.generator.state_dict()
    assert all(torch.equal(state[name], value) for name, value in whole.generator.state_dict().items())


def test_a_projection_compares_pictures(folder: Path) -> None:
    generator = parse(document(folder)).build().generator.eval()
    result = project(generator, generate(generator, [1]), steps=2, c=torch.eye(10)[1])
    assert result.image.shape == (1, 1, 16, 16)


def test_pictures_of_latents_without_images_are_decoded(folder: Path, tmp_path: Path) -> None:
    pixels = digits("train", (16, 16), 1, labelled=True)
    pixels.pixels, pixels.labels = pixels.pixels[:5], pixels.labels[:5]  # type: ignore[index]
    encode(pixels, tmp_path / "latents", spec(folder), resolution=16)
    generator = parse(document(folder)).build().generator
    pictures = open_pictures(tmp_path / "latents", generator)
    mean = open_latents(tmp_path / "latents").read(2)[None, :4]
    expected = generator.decoder(0.8 * mean)
    difference = from_bytes(pictures.read(2)[None], "symmetric") - expected.clamp(-1, 1)
    assert difference.abs().max() < 1 / 255
    generator.decoder = None
    with pytest.raises(DataError, match="the generator has no decoder: give it one, or encode with --keep-images"):
        open_pictures(tmp_path / "latents", generator)


def test_latents_and_document_have_to_fit(folder: Path, tmp_path: Path) -> None:
    other = document(folder)
    other["generator"]["decoder"]["scaling_factor"] = 0.5
    with pytest.raises(DataError, match=r"latents of scaling_factor 0\.8, but generator.decoder.scaling_factor is 0.5"):
        train(other, str(folder / "latents"), tmp_path / "run", quiet=True)
    with pytest.raises(DataError, match=r"latents of shape \(4, 4, 4\), not \(4, 8, 8\)"):
        open_data(folder / "latents", resolution=8, image_channels=4)
    few = digits("train", (16, 16), 1, labelled=True)
    few.pixels, few.labels = few.pixels[:4], few.labels[:4]  # type: ignore[index]
    few.labels = torch.tensor([0, 1, 2, 9])
    encode(few, tmp_path / "plain", spec(folder), resolution=16, num_classes=10)
    with pytest.raises(DataError, match=r"has no images beside its latents, .* encode with --keep-images"):
        train(document(folder), str(tmp_path / "plain"), tmp_path / "run", quiet=True)
    wrong = document(folder)
    wrong["generator"] |= {"image_channels": 3}
    with pytest.raises(IncompatibleError, match="decodes latents of 4 channels, but the synthesis makes 3"):
        parse(wrong).build()


def test_damaged_folders_of_latents_are_refused(folder: Path, tmp_path: Path) -> None:
    few = digits("train", (16, 16), 1, labelled=False)
    few.pixels = few.pixels[:3]
    encode(few, tmp_path / "latents", spec(folder), resolution=16)
    with pytest.raises(UsageError, match="is not an empty folder"):
        encode(few, tmp_path / "latents", spec(folder), resolution=16)
    with pytest.raises(UsageError, match="--resolution 18: the autoencoder takes multiples of 4; take 16"):
        encode(few, tmp_path / "other", spec(folder), resolution=18)
    assert not (tmp_path / "other").exists()
    manifest = tmp_path / "latents" / "latents.json"
    text = manifest.read_text()
    for old, new, message in (
        ('"num_images": 3', '"num_images": 4', "the shards have 3 images, not 4"),
        ("latents-00000.safetensors", "../other.safetensors", "shards.0.file"),
        ('"latent_shape"', '"latent_shapes"', "encode the images again"),
        ("{", "", "is not JSON"),
    ):
        manifest.write_text(text.replace(old, new, 1))
        with pytest.raises(DataError, match=message):
            open_latents(tmp_path / "latents")
    manifest.write_text(text)
    shard = tmp_path / "latents" / "latents-00000.safetensors"
    save_file({"moments": torch.zeros(2, 8, 4, 4)}, tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").replace(shard)
    from ganblocks.data.encoded import files

    files.opened.cache_clear()
    with pytest.raises(DataError, match=r"\[2, 8, 4, 4\].*not .*\[3, 8, 4, 4\]"):
        open_latents(tmp_path / "latents")

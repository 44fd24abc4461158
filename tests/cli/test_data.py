"""The commands of `ganblocks data`."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ganblocks.data.encoded.files import open_latents

SPEC = "kind: conv-autoencoder\nimage_channels: 1\nlatent_channels: 2\ndownsampling: 8\ndim: 4\nscaling_factor: 0.5\n"


@pytest.fixture
def encoder(tmp_path):
    path = tmp_path / "vae.yaml"
    path.write_text(SPEC)
    return str(path)


def test_images_are_encoded_into_a_folder(ganblocks, encoder, tmp_path):
    torch.manual_seed(0)
    out = tmp_path / "latents"
    options = ("--resolution", "16", "--num-classes", "10", "--device", "cpu", "--batch-size", "512", "--json")
    code, text, _ = ganblocks("data", "encode", "digits", str(out), "--encoder", encoder, *options)
    assert code == 0
    record = json.loads(text)
    assert (record["images"], record["shards"], record["latent_shape"]) == (1437, 1, [2, 2, 2])
    moments = load_file(out / "latents-00000.safetensors")["moments"]
    mean, deviation = moments.chunk(2, dim=1)
    assert record["mean"] == pytest.approx(mean.mean().item(), abs=1e-6)
    assert record["deviation"] == pytest.approx((mean + deviation * torch.randn(mean.shape)).std().item(), rel=0.02)
    latents = open_latents(out)
    assert latents.manifest.scaling_factor == 0.5
    assert latents.class_names == tuple("0123456789")
    assert not latents.manifest.has_images


@pytest.mark.parametrize(
    ("encoder_spec", "message"),
    [
        ("conv-autoencodr", "conv-autoencoder"),
        ("r1", "--encoder"),
        ("missing.yaml", "missing.yaml"),
    ],
)
def test_an_unknown_encoder_is_an_error_and_nothing_is_written(ganblocks, tmp_path, encoder_spec, message):
    out = tmp_path / "latents"
    code, _, errors = ganblocks("data", "encode", "digits", str(out), "--encoder", encoder_spec, "--resolution", "16")
    assert code == 2
    assert message in errors
    assert not out.exists()


def test_check_reports_and_draws_a_sheet(ganblocks, tmp_path):
    for number in range(3):
        Image.new("RGB", (12, 8), (80 * number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"text")
    code, out, _ = ganblocks("data", "check", tmp_path, "--sheet", tmp_path / "new" / "sheet.webp")
    assert code == 0
    assert out.startswith("3 images, ")
    assert "sizes: 12 x 8 (3)" in out
    assert f"1 file not readable:\n  {tmp_path / 'broken.png'}: is not an image" in out
    with Image.open(tmp_path / "new" / "sheet.webp") as sheet:
        assert max(sheet.size) >= 24
    for sheet in (tmp_path, tmp_path / "sheet.txt"):
        code, _, error = ganblocks("data", "check", tmp_path, "--sheet", sheet)
        assert (code, f"--sheet {sheet}: is one picture; give a suffix" in error) == (2, True)


def test_prepare_writes_shards_that_train_reads(ganblocks, tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(4):
        Image.new("RGB", (12, 8), (60 * number, 0, 0)).save(tmp_path / "in" / f"{number}.png")
    options = ("--resolution", 8, "--shards", 1, "--workers", 1)
    code, out, _ = ganblocks("data", "prepare", tmp_path / "in", tmp_path / "out", *options)
    assert code == 0
    assert out == f"4 images in {tmp_path / 'out' / 'train'}\n"
    code, _, error = ganblocks("data", "prepare", tmp_path / "in", tmp_path / "out", *options[2:], "--resolution", 4)
    assert code == 2
    assert "resolution 8 there, 4 now; choose a new folder" in error
    error = ganblocks("data", "prepare", tmp_path / "in", tmp_path / "in" / "0.png")[2]
    assert "0.png is a file; give a folder" in error

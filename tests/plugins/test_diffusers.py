"""Autoencoders of diffusers: local folders only, factors as published, and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from blocks.common.pretrained.frozen_module import WEIGHTS_ENV, FrozenModule
from plugins import diffusers
from plugins.diffusers import TINY, AutoencoderKL, library
from registry import IncompatibleError, SpecError
from registry.external_files import external_files

OPTIONS: dict[str, Any] = {"downsampling": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small autoencoder as diffusers writes it."""
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    torch.manual_seed(0)
    network = library().AutoencoderKL(**TINY)
    network.save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


def test_a_folder_is_loaded_and_frozen(folder: Path) -> None:
    block = AutoencoderKL(weights=str(folder), **OPTIONS)
    assert isinstance(block.network, FrozenModule)
    assert not block.state_dict()
    image = torch.rand(2, 3, 8, 12) * 2 - 1
    moments = block.moments(image)
    assert moments.shape == (2, 8, 4, 6)
    posterior = block.inner().encode(image).latent_dist
    torch.testing.assert_close(moments, torch.cat([posterior.mean, posterior.std], dim=1))
    latents = torch.randn(2, 4, 4, 6, requires_grad=True)
    decoded = block(latents)
    torch.testing.assert_close(decoded, block.inner().decode(latents / 0.18215).sample)
    decoded.sum().backward()
    assert latents.grad is not None, "gradients pass through the decoder"


def test_the_folder_of_weights_is_searched_by_the_last_part_of_the_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEIGHTS_ENV, str(folder.parent))
    first, second = (AutoencoderKL(weights=name, **OPTIONS) for name in (str(folder), "somebody/vae"))
    latents = torch.randn(1, 4, 2, 2)
    torch.testing.assert_close(first(latents), second(latents), rtol=0, atol=0)


def test_nothing_is_downloaded_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    calls = []

    def from_pretrained(name: str, *, local_files_only: bool = False, **options: Any) -> Any:
        calls.append((name, local_files_only))
        raise OSError("no connection")

    monkeypatch.setattr(library().AutoencoderKL, "from_pretrained", from_pretrained)
    with pytest.raises(IncompatibleError, match="pass --allow-external to download it, or put it into the folder"):
        AutoencoderKL()
    assert calls == [("stabilityai/sd-vae-ft-ema", True)]
    with external_files(allowed=True), pytest.raises(IncompatibleError, match="cannot be downloaded: no connection"):
        AutoencoderKL()
    assert calls[1:] == [("stabilityai/sd-vae-ft-ema", True), ("stabilityai/sd-vae-ft-ema", False)]


def test_a_model_file_opens_no_folder_unless_that_is_allowed(folder: Path) -> None:
    with external_files(allowed=False), pytest.raises(IncompatibleError, match="the model file wants to open"):
        AutoencoderKL(weights=str(folder), **OPTIONS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"downsampling": 8}, "downsampling .*is 8, but the autoencoder has 2"),
        ({"latent_channels": 16}, "latent_channels .*is 16, but the autoencoder has 4"),
        (
            {"scaling_factor": 0.13025},
            r"is 0\.13025, but .* was published with 0\.18215; set scaling_factor to 0\.18215",
        ),
        ({"shift_factor": 0.1}, r"is 0\.1, but .* was published with 0; set shift_factor to 0"),
    ],
)
def test_options_have_to_be_those_of_the_weights(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(IncompatibleError, match=message):
        AutoencoderKL(**{"weights": str(folder), **OPTIONS, **changes})


def test_a_damaged_folder_is_refused(folder: Path) -> None:
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(IncompatibleError, match="vae cannot be read"):
        AutoencoderKL(weights=str(folder), **OPTIONS)


def test_documents_are_checked_without_weights_and_without_diffusers() -> None:
    with torch.device("meta"):
        block = AutoencoderKL()
    assert (block.latent_channels, block.image_channels, block.downsampling) == (4, 3, 8)
    assert not list(block.parameters())


def test_without_diffusers_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'diffusers'")

    monkeypatch.setattr(diffusers, "import_beside_torchvision", missing)
    with pytest.raises(SpecError, match=r"needs diffusers: pip install 'ganblocks\[diffusers\]'"):
        AutoencoderKL()

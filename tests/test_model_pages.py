"""The site has a page for each model, made of docs/models.md and the registry."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOADED = importlib.util.spec_from_file_location("model_pages", ROOT / "docs" / "model_pages.py")
model_pages = importlib.util.module_from_spec(LOADED)
LOADED.loader.exec_module(model_pages)


def test_every_model_has_a_page_in_the_site():
    packages = {path.parent.name for path in (ROOT / "assemblies" / "models").glob("*/architecture.py")}
    assert set(model_pages.MODELS) == packages
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert all(f": {model_pages.page_name(package)}" in navigation for package in packages)


@pytest.mark.parametrize(
    ("package", "texts"),
    [
        ("stylenat", ["| `stylenat-ffhq-256` | 64 |", "| its first checkpoints |", "21 of StyleNAT", "1.88e-4; the"]),
        ("stylegan2", ["| `stylegan2-ffhq-256` | 64 |", "generator has no recording", "the discriminator first"]),
        ("stylegan_t", ["| `stylegan-t-*` | 128 |", "47 of StyleGAN-T", "weight of the guidance is eight times"]),
    ],
)
def test_a_page_has_the_models_parts_of_the_overview(package, texts):
    page = model_pages.model_page(package)
    for text in texts:
        assert text in page, text
    assert "| `r3gan-" not in page


@pytest.mark.parametrize(
    ("package", "study"),
    [
        ("stylenat", "stylenat"),
        ("vitgan", "vitgan"),
        ("styleformer", "styleformer"),
        ("stylegan_t", "stylegan-t"),
        ("stylegan2", "digits-r3gan"),
        ("r3gan", "digits-r3gan"),
    ],
)
def test_a_page_has_the_models_ablations(package, study):
    _, _, ablations = model_pages.model_page(package).partition("\n## Ablations\n")
    assert f"Study `{study}`" in ablations


def test_missing_parts_are_an_error(monkeypatch):
    monkeypatch.setitem(model_pages.MODELS, "gat", ("Goat",))
    with pytest.raises(LookupError, match="no row of the table"):
        model_pages.model_page("gat")

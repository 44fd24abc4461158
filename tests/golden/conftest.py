"""`pytest tests/golden --golden DIR`: every fixture folder below DIR becomes a test named model/name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# Until a model is rebuilt whole, only these kinds of it run by default; `--golden DIR` runs every fixture below DIR.
REBUILT = {
    "stylenat": {
        "AdaptiveInstanceNorm",
        "BilinearUpsample",
        "HydraNeighborhoodAttention",
        "MHSARPB",
        "MHSARPBLayer",
        "NATLayer",
        "SinusoidalPositionalEmbedding",
        "ToRGB",
        "functional",
    },
    "stylegan_t": {
        "bias_act",
        "diffaug",
        "fully_connected",
        "hinge",
        "modulated_conv2d",
        "normalize_2nd_moment",
        "resample",
        "synthesis_input",
    },
    "styleformer": {"Discriminator", "MappingNetwork", "ToRGBLayer"},
    "vitgan": {
        "off_attention",
        "off_cips",
        "off_diffaug",
        "off_discriminator",
        "off_dloss",
        "off_isn",
        "off_sln",
        "off_stylelayer",
        "paper_gblock",
        "paper_isn",
        "paper_l2",
        "paper_patch",
        "paper_sln",
        "re_attention",
        "re_diffaug",
        "re_isn",
        "re_sln",
    },
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden", type=Path, default=None, help="a folder of golden fixtures (default: tests/golden/data)"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_folder" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("--golden")
    folders = sorted(path.parent for path in (chosen or HERE / "data").rglob("fixture.json"))
    if chosen is None:
        folders = [folder for folder in folders if _rebuilt(folder)]
    metafunc.parametrize("golden_folder", folders, ids=[f"{folder.parent.name}/{folder.name}" for folder in folders])


def _rebuilt(folder: Path) -> bool:
    told = json.loads((folder / "fixture.json").read_text())
    return told["kind"] in REBUILT.get(told["model"], set())

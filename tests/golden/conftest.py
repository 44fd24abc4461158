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
        "Discriminator",
        "Generator",
        "HydraNeighborhoodAttention",
        "MHSARPB",
        "MHSARPBLayer",
        "NATLayer",
        "NeighborhoodAttentionSplitHead",
        "SinusoidalPositionalEmbedding",
        "StyleSwinTransformerBlock",
        "ToRGB",
        "Wavelet",
        "functional",
    },
    "stylegan_t": {
        "batchnorm_local",
        "bias_act",
        "blur",
        "clip_image_features",
        "diffaug",
        "disc_head",
        "discriminator",
        "fully_connected",
        "generator",
        "hinge",
        "loss_phase",
        "mapping",
        "modulated_conv2d",
        "normalize_2nd_moment",
        "resample",
        "schedules",
        "spherical_distance",
        "style_split",
        "synthesis",
        "synthesis_block",
        "synthesis_input",
        "synthesis_layer",
        "torgb",
        "train_modes",
        "vit_features",
    },
    "styleformer": {
        "AugmentPipe",
        "Discriminator",
        "EncoderBlock",
        "Encoderlayer",
        "Generator",
        "Loss",
        "MappingNetwork",
        "ToRGBLayer",
    },
    "vitgan": {
        "off_attention",
        "off_block",
        "off_cips",
        "off_diffaug",
        "off_discriminator",
        "off_dloss",
        "off_generator",
        "off_isn",
        "off_sln",
        "off_stylelayer",
        "paper_dblock",
        "paper_gblock",
        "paper_isn",
        "paper_l2",
        "paper_patch",
        "paper_sln",
        "re_attention",
        "re_diffaug",
        "re_discriminator",
        "re_generator",
        "re_isn",
        "re_patch_embed",
        "re_siren",
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

"""The autoencoder with a projected discriminator: what is trained, printed and drawn, and that it is sharper."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.budget import only_in_full

FILE = Path(__file__).parents[2] / "examples" / "adversarial_autoencoder.py"


@pytest.fixture
def example(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("adversarial_autoencoder", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", [str(FILE), str(tmp_path / "picture.png")])
    return module


def printed_distances(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"(\w+) discriminator: .*Fréchet distance (\S+)", text)}


def test_the_example_uses_blocks_alone_of_ganblocks():
    imports = re.findall(r"^(?:from|import) (\w+)", FILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert "blocks" in imports
    assert not {"assemblies", "ganblocks", "registry"} & set(imports)


def test_training_changes_the_heads_and_the_autoencoder_and_not_the_frozen_features(example):
    torch.manual_seed(0)
    model = example.Autoencoder()
    discriminator = example.Projected(model.features)
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    start = {name: value.clone() for name, value in model.state_dict().items()}
    example.train(model, 2, discriminator)
    changed = {name for name, value in discriminator.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name, _ in discriminator.heads.named_parameters(prefix="heads")}
    parameters = dict(model.named_parameters())
    assert all(not torch.equal(value, start[name]) for name, value in parameters.items())


def test_the_distance_of_equal_images_is_zero_and_grows_with_blur(example):
    torch.manual_seed(0)
    images, features = example.crops(example.HELD_OUT, 64), example.Features()
    blurred = [
        torch.nn.functional.avg_pool2d(images, side, 1, side // 2, count_include_pad=False) for side in (1, 3, 5)
    ]
    same, little, much = (example.distance(features, images, each) for each in blurred)
    assert abs(same) < 1e-6 < little < much


def test_the_command_prints_both_distances_and_draws_the_photograph_and_both_outputs(example, monkeypatch, capsys):
    monkeypatch.setattr(example, "STEPS", (2, 2))
    example.main()
    assert printed_distances(capsys.readouterr().out).keys() == {"without", "with"}
    picture = Image.open(sys.argv[1])
    assert picture.width == 3 * picture.height


@pytest.mark.slow
@only_in_full("three minutes")
def test_the_autoencoder_with_a_discriminator_is_sharper(example, capsys):
    example.main()
    distances = printed_distances(capsys.readouterr().out)
    assert distances["with"] < 0.9 * distances["without"]

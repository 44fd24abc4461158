"""Style mixing, truncation sweeps and walks show what they say, for every generator."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from assemblies import parse, save_model
from ganblocks.cli import app as cli
from ganblocks.errors import DataError, UsageError
from ganblocks.sampling.generate import (
    batch_size_of,
    generate,
    one_hot,
    resolve_conditions,
    sample_files,
    styles,
    synthesize,
)
from ganblocks.sampling.grids import destination, make_grid, save_animation, to_picture
from ganblocks.sampling.interpolation import interpolate_files, styles_on_the_way
from ganblocks.sampling.style_mixing import choose, groups_of, mix, resolutions_of, style_mix_files
from ganblocks.sampling.truncation import truncation_files
from tests import tiny


def randomised(generator):
    with torch.no_grad():
        for value in generator.parameters():
            value.add_(torch.randn_like(value) * 0.3)
    return generator.eval()


@pytest.fixture(scope="module")
def conditional():
    torch.manual_seed(0)
    return randomised(parse(tiny.GENERATOR | {"cond_dim": 3}).build())


@pytest.fixture
def model(tmp_path, conditional):
    save_model(tmp_path / "model.safetensors", conditional)
    return tmp_path / "model.safetensors"


def tall(*sides):
    """A generator with two styles at each of these sides."""
    steps = [{"kind": "constant", "resolution": sides[0], "dim": 8}]
    for index in range(len(sides)):
        if index:
            steps.append({"kind": "upsample-linear", "dim": 8})
        attention = {"kind": "na", "num_heads": 1, "kernel_size": 3}
        steps.append({"kind": "transformer", "norm": "sln", "attention": attention, "repeat": 2})
    return parse({"kind": "layered", "z_dim": 4, "synthesis": [*steps, {"kind": "to-rgb"}]}).build()


def test_groups_of_styles_go_by_resolution_as_in_the_paper():
    generator = tall(8, 16, 32, 64)
    assert resolutions_of(generator) == [8, 8, 16, 16, 32, 32, 64, 64]
    groups = groups_of(generator)
    assert {name: group.indices for name, group in groups.items()} == {
        "coarse": [0, 1],
        "middle": [2, 3, 4, 5],
        "fine": [6, 7],
    }
    assert str(groups["middle"]) == "middle styles 2-5\n16-32 px"


def test_where_one_of_the_three_is_missing_groups_are_thirds():
    groups = groups_of(tall(4, 8))
    assert [group.indices for group in groups.values()] == [[0], [1, 2], [3]]
    assert str(groups["coarse"]) == "coarse styles 0\n4 px"


def test_styles_can_be_named_by_numbers(conditional):
    assert [each.indices for each in choose(conditional, ["fine", "0-1"])] == [[1], [0, 1]]
    with pytest.raises(UsageError, match="'big' names no styles; write coarse, "):
        choose(conditional, ["big"])
    with pytest.raises(UsageError, match="no styles 1-2: the generator has styles 0 to 1"):
        choose(conditional, ["1-2"])


def test_mixing_takes_over_the_chosen_styles_alone(conditional):
    onto, source = styles(conditional, [1, 2])
    (second,) = choose(conditional, ["1"])
    mixed = mix(onto, source, second)
    assert torch.equal(mixed[0], onto[0])
    assert torch.equal(mixed[1], source[1])


def test_a_mixing_grid_has_sources_above_and_destinations_on_the_left(model, tmp_path, conditional):
    made = style_mix_files(model, [0, 1, 2], [3, 4], tmp_path / "new" / "mix.png", groups=["0", "1"], classes=[2])
    assert made["images"] == 3 + 2 + 2 * 2 * 3
    assert made["styles"] == {"styles 0": [0], "styles 1": [1]}
    picture = np.asarray(Image.open(tmp_path / "new" / "mix.png").convert("RGB")).astype(int)
    c = one_hot([2], 3)[0]
    taken, kept = generate(conditional, [1], c=c)[0], generate(conditional, [4], c=c)[0]
    ws = styles(conditional, [4, 1], c=c)
    (band,) = choose(conditional, ["1"])
    corner = next(synthesize(conditional, mix(ws[0], ws[1], band)[None]))[0]
    for image in (taken, kept, corner):
        assert find(image, picture)


def find(image, picture):
    """Whether an image is part of a picture at some scale."""
    small = np.asarray(to_picture(image)).astype(int)
    for scale in range(1, 8):
        cell = small.repeat(scale, 0).repeat(scale, 1)
        height, width, _ = cell.shape
        for y in range(picture.shape[0] - height + 1):
            for x in np.flatnonzero(np.abs(picture[y, : picture.shape[1] - width + 1] - cell[0, 0]).max(-1) <= 1):
                if np.abs(picture[y : y + height, x : x + width] - cell).max() <= 1:
                    return True
    return False


def test_a_truncation_sweep_goes_from_the_mean_to_the_seed(model, tmp_path, conditional):
    made = truncation_files(model, [5, 6], tmp_path / "sweep.png", psis=[0, 0.5, 1], classes=[1])
    assert (made["images"], made["psis"]) == (6, [0, 0.5, 1])
    picture = np.asarray(Image.open(tmp_path / "sweep.png").convert("RGB")).astype(int)
    c = one_hot([1], 3)[0]
    assert find(generate(conditional, [6], c=c, truncation_psi=0.5)[0], picture)
    assert find(generate(conditional, [5], c=c)[0], picture)
    with pytest.raises(UsageError, match="has no suffix such as"):
        truncation_files(model, [5], tmp_path / "folder")


@pytest.mark.parametrize("space", ["w", "z"])
def test_a_walk_may_pass_through_classes_too(conditional, space):
    c = one_hot([0, 2], 3)
    ws = styles_on_the_way(conditional, [7, 8], 3, space=space, c=c)
    assert len(ws) == 4
    torch.testing.assert_close(ws[[0, 3]], styles(conditional, [7, 8], c=c))
    assert not torch.allclose(ws[1], styles_on_the_way(conditional, [7, 8], 3, space=space, c=c[0])[1])


@pytest.mark.parametrize("suffix", [".gif", ".apng", ".webp"])
def test_a_walk_becomes_an_animation(model, tmp_path, suffix):
    made = interpolate_files(model, [1, 2, 3], tmp_path / f"walk{suffix}", steps=2, loop=True, fps=20)
    assert made["images"] == 6
    animation = Image.open(tmp_path / f"walk{suffix}")
    assert (animation.n_frames, animation.size) == (6, (16, 16))
    assert animation.info["loop"] == 0
    animation.seek(1)
    animation.load()
    assert animation.info["duration"] == 50
    assert [path.name for path in tmp_path.iterdir() if path.suffix == suffix] == [f"walk{suffix}"]


def test_a_walk_becomes_a_grid_or_frames(model, tmp_path, conditional):
    interpolate_files(model, [1, 2], tmp_path / "walk.png", steps=3)
    assert Image.open(tmp_path / "walk.png").height == 2 * 16 + 2
    made = interpolate_files(model, [1, 2], tmp_path / "frames", steps=3, space="z", classes=[0, 1])
    assert made["told"] == ["class 0", "class 1"]
    frames = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert frames == ["frame00000.png", "frame00001.png", "frame00002.png", "frame00003.png"]
    last = np.asarray(Image.open(tmp_path / "frames" / frames[-1])).astype(int)
    expected = np.asarray(to_picture(generate(conditional, [2], c=one_hot([1], 3))[0])).astype(int)
    assert np.abs(last - expected).max() <= 1


def test_what_is_no_walk_is_told_plainly(model, tmp_path):
    with pytest.raises(UsageError, match="two seeds or more, such as 0-3; 4 alone"):
        interpolate_files(model, [4], tmp_path / "walk.gif")
    with pytest.raises(UsageError, match="2 conditions for 3 seeds"):
        interpolate_files(model, [1, 2, 3], tmp_path / "walk.gif", classes=[0, 1])
    with pytest.raises(UsageError, match=r"ends in \.mp4, which cannot be written; take \.gif, \.apng"):
        interpolate_files(model, [1, 2], tmp_path / "walk.mp4")


def test_several_classes_make_a_row_each(model, tmp_path, conditional):
    made = sample_files(model, [3, 4], tmp_path / "grid.png", classes=[0, 1, 2])
    assert (made["images"], made["told"]) == (6, ["class 0", "class 1", "class 2"])
    assert Image.open(tmp_path / "grid.png").height == 3 * 16 + 4
    sample_files(model, [3], tmp_path / "each", classes=[0, 2])
    names = sorted(path.name for path in (tmp_path / "each").iterdir())
    assert names == ["condition0-seed0003.png", "condition1-seed0003.png"]


def test_captions_are_for_generators_that_take_them(conditional):
    with pytest.raises(DataError, match="knows classes 0 to 2, no captions; 'a bird' cannot"):
        resolve_conditions(conditional, captions=["a bird"])
    with pytest.raises(DataError, match="either classes or captions"):
        resolve_conditions(conditional, [1], ["a bird"])


def test_large_images_are_drawn_few_at_once():
    sizes = {}
    for side in (16, 64, 256, 1024):
        generator = parse(tiny.GENERATOR).build()
        generator.resolution = (side, side)
        sizes[side] = batch_size_of(generator)
    assert sizes == {16: 32, 64: 32, 256: 2, 1024: 1}


def test_random_noise_follows_from_the_seed():
    torch.manual_seed(0)
    steps = [{"kind": "constant", "dim": 8}, {"kind": "styled-attention", "num_heads": 2}, {"kind": "to-rgb"}]
    generator = randomised(parse({"kind": "layered", "z_dim": 4, "synthesis": steps}).build())
    fixed, random = generate(generator, [3, 4]), generate(generator, [3, 4], noise="random")
    assert not torch.allclose(fixed, random)
    torch.testing.assert_close(generate(generator, [4], noise="random")[0], random[1])
    torch.testing.assert_close(generate(generator, [3, 4], noise="const"), fixed)


def test_a_picture_is_known_by_its_suffix(tmp_path):
    assert destination(tmp_path / "a.PNG") == ".png"
    assert destination(tmp_path / "samples") == ""
    (tmp_path / "run.v2").mkdir()
    assert destination(tmp_path / "run.v2") == ""
    with pytest.raises(UsageError, match=r"ends in \.txt"):
        destination(tmp_path / "a.txt")


def test_labels_stand_beside_and_above_and_places_may_be_empty():
    grid = make_grid([None, torch.ones(3, 8, 8)], columns=2, row_labels=["two\nlines"], column_labels=["", "right"])
    assert grid.height > 8
    assert grid.getpixel((grid.width - 1, grid.height - 1)) == (255, 255, 255)


def test_an_animation_keeps_the_order_of_its_frames(tmp_path):
    frames = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (10, 120, 250)]
    save_animation(frames, tmp_path / "a.apng", fps=10)
    found = Image.open(tmp_path / "a.apng")
    shades = []
    for index in range(3):
        found.seek(index)
        shades.append(found.convert("RGB").getpixel((0, 0))[0])
    assert shades == [10, 120, 250]


@pytest.mark.parametrize("command", ["sample", "truncation", "mix", "walk", "attention"])
def test_every_command_draws_and_tells_in_json(command, model, tmp_path, monkeypatch, capsys):
    out = tmp_path / ("pictures" if command == "attention" else "picture.png")
    arguments = ["--class", "1", "--out", str(out), "--json"] + (["--steps", "2"] if command == "walk" else [])
    monkeypatch.setattr(sys, "argv", ["ganblocks", command, str(model), *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (0, None)
    made = json.loads(capsys.readouterr().out)
    assert made["out"] == str(out)
    assert out.exists()
    assert made["told"] == ["class 1"]


def test_every_command_of_the_page_on_sampling_runs(conditional, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "sampling.md").read_text()
    lines = page.partition("```bash\n")[2].partition("```")[0].splitlines()
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    save_model(tmp_path / "runs" / "mine" / "model.safetensors", conditional)
    monkeypatch.chdir(tmp_path)
    for line in lines:
        monkeypatch.setattr(sys, "argv", shlex.split(line, comments=True))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code in (0, None), f"{line}\n{capsys.readouterr().err}"
    assert len(lines) == 9
    assert len(list((tmp_path / "samples").iterdir())) == 100
    assert len(list((tmp_path / "frames").iterdir())) == 73

"""Style mixing takes the chosen styles from the source and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from assemblies import parse
from ganblocks.errors import UsageError
from ganblocks.sampling.conditions import one_hot
from ganblocks.sampling.generate import generate, styles, synthesize
from ganblocks.sampling.style_mixing import choose_groups, mix, save_style_mixing, style_groups, style_resolutions
from tests.sampling.conftest import is_part_of


def tall(*sides):
    """A generator with two styles at each of these sides."""
    steps = [{"kind": "constant", "resolution": sides[0], "dim": 8}]
    for index in range(len(sides)):
        if index:
            steps.append({"kind": "upsample-linear", "dim": 8})
        attention = {"kind": "na", "num_heads": 1, "kernel_size": 3}
        steps.append({"kind": "transformer", "norm": "sln", "attention": attention, "repeat": 2})
    return parse({"kind": "layered", "z_dim": 4, "synthesis": [*steps, {"kind": "to-rgb"}]}).build()


def test_style_groups_depend_on_the_resolution_as_in_the_paper():
    generator = tall(8, 16, 32, 64)
    assert style_resolutions(generator) == [8, 8, 16, 16, 32, 32, 64, 64]
    groups = style_groups(generator)
    assert {name: group.indices for name, group in groups.items()} == {
        "coarse": [0, 1],
        "middle": [2, 3, 4, 5],
        "fine": [6, 7],
    }
    assert str(groups["middle"]) == "middle styles 2-5\n16-32 px"


def test_style_groups_are_thirds_where_one_of_the_three_is_missing():
    groups = style_groups(tall(4, 8))
    assert [group.indices for group in groups.values()] == [[0], [1, 2], [3]]
    assert str(groups["coarse"]) == "coarse styles 0\n4 px"


def test_styles_can_be_chosen_by_index(conditional):
    assert [each.indices for each in choose_groups(conditional, ["fine", "0-1"])] == [[1], [0, 1]]
    with pytest.raises(UsageError, match="--styles big: write coarse, "):
        choose_groups(conditional, ["big"])
    with pytest.raises(UsageError, match="--styles 1-2: the generator has style vectors 0 to 1"):
        choose_groups(conditional, ["1-2"])


def test_mixing_changes_the_chosen_styles_alone(conditional):
    onto, source = styles(conditional, [1, 2])
    (second,) = choose_groups(conditional, ["1"])
    mixed = mix(onto, source, second)
    assert torch.equal(mixed[0], onto[0])
    assert torch.equal(mixed[1], source[1])


def test_a_mixing_grid_has_sources_above_and_destinations_on_the_left(model, tmp_path, conditional):
    record = save_style_mixing(
        model, [0, 1, 2], [3, 4], tmp_path / "new" / "mix.png", groups=["0", "1"], classes=[2], scale=2
    )
    assert record["images"] == 3 + 2 + 2 * 2 * 3
    assert record["styles"] == {"styles 0": [0], "styles 1": [1]}
    picture = np.asarray(Image.open(tmp_path / "new" / "mix.png").convert("RGB")).astype(int)
    c = one_hot([2], 3)[0]
    source, destination = generate(conditional, [1], c=c)[0], generate(conditional, [4], c=c)[0]
    ws = styles(conditional, [4, 1], c=c)
    (group,) = choose_groups(conditional, ["1"])
    corner = next(synthesize(conditional, mix(ws[0], ws[1], group)[None]))[0]
    for image in (source, destination, corner):
        assert is_part_of(image, picture, conditional.value_range)

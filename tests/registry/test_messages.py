"""Error messages: one problem per mistake, at its path, with a cure."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from assemblies import GAN, parse
from blocks import HydraNA, ShiftedWindowAttention, SirenPatches
from registry import IncompatibleError, Problem, SpecValidationError
from registry.errors import nearest
from tests import tiny

ODD = "should be odd, so that the window has a centre, not {}; take {} or {}"


@pytest.mark.parametrize(
    ("make", "problems"),
    [
        (lambda: HydraNA.Spec(kernel_sizes=[4]), {"kernel_sizes.0": ODD.format(4, 3, 5)}),
        (lambda: HydraNA.Spec(kernel_sizes=[3, 8]), {"kernel_sizes.1": ODD.format(8, 7, 9)}),
        (lambda: HydraNA.Spec(kernel_sizes=[]), {"kernel_sizes": "should have at least 1 item, not []"}),
        (lambda: HydraNA.Spec(dilations=[0]), {"dilations.0": "should be greater than 0, not 0"}),
        (lambda: HydraNA.Spec(dilations=[2.5]), {"dilations.0": "should be a valid integer, got a number with a frac"}),
        (
            lambda: ShiftedWindowAttention.Spec(shift_sizes=[-1]),
            {"shift_sizes.0": "should be greater than or equal to 0, not -1"},
        ),
        (lambda: SirenPatches.Spec(hidden_dims=[0]), {"hidden_dims.0": "should be greater than 0, not 0"}),
    ],
)
def test_an_invalid_item_is_the_only_problem_of_its_list(make: Any, problems: dict[str, str]) -> None:
    with pytest.raises(SpecValidationError) as caught:
        make()
    messages = {problem.location: problem.message for problem in caught.value.problems}
    assert list(messages) == list(problems)
    assert all(messages[path].startswith(message) for path, message in problems.items())


def test_an_invalid_item_inside_a_document_is_the_only_problem() -> None:
    layer = {"kind": "transformer", "attention": {"kind": "hydra-na", "kernel_sizes": [4]}}
    document = deepcopy(tiny.gan())
    document["generator"]["synthesis"].insert(1, layer)
    with pytest.raises(SpecValidationError) as caught:
        parse(document, GAN)
    path = ("generator", "synthesis", 1, "attention", "kernel_sizes", 0)
    assert caught.value.problems == (Problem(path, ODD.format(4, 3, 5)),)


@pytest.mark.parametrize("norm", ["sln", "adain"])
def test_a_norm_with_styles_in_a_discriminator_is_explained(norm: str) -> None:
    document = deepcopy(tiny.gan())
    document["discriminator"] = {
        "kind": "layered",
        "steps": [
            {"kind": "from-rgb", "dim": 8},
            {"kind": "transformer", "norm": norm, "attention": {"kind": "dense", "num_heads": 2}},
            {"kind": "linear"},
        ],
    }
    message = rf"{norm} needs style vectors, and a discriminator has none \(available here: dim, resolution\)"
    with pytest.raises(IncompatibleError, match=message):
        parse(document, GAN).build()


def test_similar_names_are_listed_before_all_names() -> None:
    assert nearest("hidra-na", ["hydra-na", "dense"]) == "did you mean 'hydra-na'?"
    assert nearest("vit_smal", ["vit_small", "vit_tiny", "vit_base"]).startswith("did you mean 'vit_small', ")
    assert nearest("x", ["b", "a"]) == "valid: a, b"
    assert nearest("x", []) == "there are none"

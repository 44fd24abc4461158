"""Values of documents are changed and compared by dotted paths."""

from __future__ import annotations

import pytest

from assemblies import parse, read
from assemblies.document_paths import ABSENT, Difference, differences, with_settings
from assemblies.gan import GAN
from registry import SpecValidationError, catalogue
from tests import tiny


def test_settings_change_values_of_all_depths():
    changed = with_settings(
        tiny.gan(),
        [
            "batch_size=4",
            "generator.z_dim=16",
            "generator.synthesis.4.attention.dilations=[1, 1]",
            "generator.synthesis.1.attention=linformer",
            "augment.policy=[color]",
        ],
    )
    assert changed["batch_size"] == 4
    assert changed["generator"]["z_dim"] == 16
    assert changed["generator"]["synthesis"][4]["attention"]["dilations"] == [1, 1]
    assert changed["generator"]["synthesis"][1]["attention"] == "linformer"
    assert changed["augment"] == {"kind": "diffaugment", "policy": ["color"]}
    assert tiny.gan()["generator"]["z_dim"] == 8


def test_a_preset_is_read_with_settings():
    spec = read("mini-stylenat", settings=["generator.z_dim=24", "generator_optimizer.lr=0.5"])
    assert spec.generator.z_dim == 24
    assert spec.generator_optimizer.lr == 0.5
    assert [row.path for row in differences(read("mini-stylenat").to_dict(), spec.to_dict())] == [
        "generator.z_dim",
        "generator_optimizer.lr",
    ]


def test_an_invalid_preset_is_an_error_with_the_path_and_the_nearest_names(monkeypatch):
    monkeypatch.setattr(catalogue, "presets", lambda: {"mine": lambda: GAN.Spec.model_validate({"loss": "hing"})})
    with pytest.raises(SpecValidationError, match=r"^mine is not valid (.*\n)+.*loss +unknown loss 'hing'; did you"):
        read("mine")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("batch_size", "should be path=value"),
        ("generater.z_dim=3", "is not in the document; .*generator"),
        ("generator.synthesis.99.dim=3", "should be a position from 0 to 6"),
        ("generator.synthesis.first.dim=3", "should be a position"),
        ("generator.z_dim.x=3", "has no options"),
        ("batch_size=[1, 2", "neither YAML nor JSON"),
        ("batch_size={a: 1, a: 2}", "given twice"),
    ],
)
def test_a_setting_that_leads_nowhere_is_named(setting, message):
    with pytest.raises(SpecValidationError, match=message):
        with_settings(parse(tiny.gan()).to_dict(), [setting])


@pytest.mark.parametrize(
    ("setting", "message"), [("generator.z_dims=3", "z_dim"), ("batch_size=-1", "batch_size"), ("kimg=text", "kimg")]
)
def test_values_are_validated_like_those_of_a_file(setting, message):
    with pytest.raises(SpecValidationError, match=message):
        read("mini-stylenat", settings=[setting])


def test_all_wrong_settings_are_listed():
    with pytest.raises(SpecValidationError) as error:
        with_settings(tiny.gan(), ["nothing", "nowhere.x=1", "kimg=2"])
    assert len(error.value.problems) == 2


def test_a_document_does_not_differ_from_itself():
    assert not list(differences(tiny.gan(), tiny.gan()))


def test_an_inserted_step_is_one_difference():
    steps = tiny.GENERATOR["synthesis"]
    changed = tiny.GENERATOR | {"synthesis": [*steps[:2], {"kind": "to-rgb"}, *steps[2:]]}
    assert list(differences(tiny.GENERATOR, changed)) == [Difference("synthesis.2", ABSENT, {"kind": "to-rgb"})]


def test_a_changed_step_is_compared_by_its_options():
    steps = [dict(step) for step in tiny.GENERATOR["synthesis"]]
    steps[2]["dim"] = 12
    changed = tiny.GENERATOR | {"synthesis": steps}
    assert list(differences(tiny.GENERATOR, changed)) == [Difference("synthesis.2.dim", 8, 12)]


def test_another_kind_is_one_difference():
    assert list(differences({"norm": {"kind": "a", "x": 1}}, {"norm": {"kind": "b"}})) == [
        Difference("norm", {"kind": "a", "x": 1}, {"kind": "b"})
    ]

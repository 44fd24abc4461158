"""blocks, presets and schema list what is installed."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from assemblies import parse
from ganblocks import describe
from registry import Block, catalogue
from tests import tiny


def test_blocks_lists_everything_registered(ganblocks):
    code, out, _ = ganblocks("blocks", "--json")
    assert code == 0
    families = json.loads(out)
    assert [family["family"] for family in families] == list(Block.families)
    listed = {(each["family"], each["kind"]) for family in families for each in family["kinds"]}
    assert listed == {(entry.block.family_name, entry.block.kind) for entry in catalogue.entries()}
    assert all(each["summary"] for family in families for each in family["kinds"])
    _, table, _ = ganblocks("blocks")
    assert all(kind in table for _, kind in listed)


def test_every_block_can_be_shown(ganblocks):
    for entry in catalogue.entries():
        details = describe.details_of(entry)
        json.dumps(details)
        assert {option["name"] for option in details["options"]} == set(entry.block.Spec.model_fields) - {"kind"}
        for parameter in details["options"] + details["context"]:
            assert parameter["type"], f"{entry.block.kind}.{parameter['name']}"
    code, out, _ = ganblocks("blocks", "hydra-na")
    assert code == 0
    for text in (
        "kernel_sizes",
        "list of integer > 0",
        "[7, 7]",
        "Total number of heads",
        "2211.05770",
        "resolution",
    ):
        assert text in out


def test_the_page_of_a_block_has_its_formula_shapes_derivatives_and_kernels(ganblocks):
    _, out, _ = ganblocks("blocks", "hydra-na")
    text = " ".join(out.split())
    assert "The longer of `kernel_sizes` and `dilations` sets the number of partitions" in text
    assert "shapes Mixes the pixels of a feature map: x [B,H,W,C] -> the same shape." in text
    assert "2nd derivative yes" in text
    assert "op neighborhood_attention kernels " in text
    assert "tiled (no 2nd derivative)" in text
    assert "op conv2d" not in text


def test_blocks_are_filtered_by_family_and_searched_by_word(ganblocks):
    _, out, _ = ganblocks("blocks", "--family", "norm", "--family", "loss", "--json")
    assert {each["family"] for each in json.loads(out)} == {"norm", "loss"}
    _, out, _ = ganblocks("blocks", "--search", "SHIFTED", "--json")
    found = {kind["kind"] for each in json.loads(out) for kind in each["kinds"]}
    assert "shifted-window" in found
    assert "layer-norm" not in found
    _, out, _ = ganblocks("blocks", "--family", "attention", "--paper")
    assert "https://arxiv.org/abs/2211.05770" in out
    assert "Multi-head self-attention" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--family", "atention"), "unknown family 'atention'; did you mean 'attention',"),
        (("--search", "no such words"), "no block contains 'no such words'; `ganblocks blocks` lists all"),
        (
            ("attention", "--search", "window"),
            "give either a kind or a family to show, or --family and --search to list",
        ),
    ],
)
def test_a_filter_without_blocks_is_an_error(ganblocks, arguments, message):
    code, _, err = ganblocks("blocks", *arguments)
    assert code == 2
    assert message in err


def test_new_plugin_writes_a_package_and_says_what_to_do_next(ganblocks, tmp_path):
    code, out, _ = ganblocks("new-plugin", "spiral-attention", "--family", "attention", "--kernel", "--out", tmp_path)
    assert code == 0
    *files, following = out.splitlines()
    assert {Path(each).name for each in files} >= {
        "pyproject.toml",
        "README.md",
        "attention.py",
        "kernel.py",
        "plugin.py",
    }
    assert (
        following == f"next: pip install --editable {tmp_path}/spiral-attention && pytest {tmp_path}/spiral-attention"
    )
    code, _, err = ganblocks("new-plugin", "spiral-attention", "--family", "attention", "--out", tmp_path)
    assert code == 2
    assert "exists already, and nothing is overwritten" in err


def test_a_kind_of_two_families_is_shown_twice(ganblocks):
    _, out, _ = ganblocks("blocks", "layered", "--json")
    assert {each["family"] for each in json.loads(out)} == {"generator", "discriminator"}


def test_a_family_can_be_shown(ganblocks):
    _, out, _ = ganblocks("blocks", "attention", "--json")
    (family,) = json.loads(out)
    assert "hydra-na" in {each["kind"] for each in family["kinds"]}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "exclusiveMinimum": 0}, "integer > 0"),
        ({"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "null"}]}, "number >= 0 <= 1 or null"),
        ({"enum": ["a", "b"]}, "a | b"),
        ({"const": "a"}, "a"),
        ({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "integer"}]}, "[integer, integer]"),
        (
            {"type": "array", "items": {"x-slot": ["layer", "image-head"]}},
            "list of block of family layer or image-head",
        ),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "mapping to string"),
        ({"$ref": "#/$defs/Adam"}, "{lr, eps}"),
    ],
    ids=str,
)
def test_types_are_a_few_words(schema, words):
    assert describe.type_of(schema, {"Adam": {"properties": {"lr": {}, "eps": {}}}}) == words


def test_the_schema_takes_good_documents_only(ganblocks):
    code, out, _ = ganblocks("schema")
    assert code == 0
    schema = json.loads(out)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(parse(tiny.gan()).to_dict())
    assert validator.is_valid(tiny.GENERATOR)
    assert not validator.is_valid(tiny.gan(batch_sise=8))


def test_presets_are_listed(ganblocks):
    code, out, _ = ganblocks("presets", "--json")
    assert code == 0
    assert [preset["preset"] for preset in json.loads(out)] == list(catalogue.presets())
    assert ganblocks("presets")[0] == 0

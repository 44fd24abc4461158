"""The JSON schema of a document: it accepts and refuses the same documents as our own validation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from assemblies import GAN, Discriminator, Generator
from blocks.families import Layer
from registry import SpecValidationError, catalogue
from registry.spec_file import schema, validate
from tests.toys import TOYS, ToyLayer, installed

GENERATOR: dict[str, Any] = {  # a hybrid of several models
    "kind": "layered",
    "z_dim": 128,
    "mapping": {"kind": "mapping", "num_layers": 4},
    "synthesis": [
        {"kind": "constant", "resolution": 4, "dim": 256},
        {"kind": "transformer", "norm": "sln", "attention": {"kind": "dense", "num_heads": 8}, "repeat": 2},
        {"kind": "upsample-linear", "dim": 128},
        {"kind": "to-rgb"},
        {
            "kind": "transformer",
            "norm": "adain",
            "attention": {"kind": "hydra-na", "kernel_sizes": [3, 3], "dilations": [1, 2]},
            "repeat": 2,
        },
        {"kind": "inr-patches", "patch_size": 4},
    ],
}


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    document_schema = schema(GAN, Generator, Discriminator)
    Draft202012Validator.check_schema(document_schema)
    return Draft202012Validator(json.loads(json.dumps(document_schema)))


def changed(*path: str | int, to: Any) -> dict[str, Any]:
    """The document with the value at a path replaced."""
    document = json.loads(json.dumps(GENERATOR))
    parent = document
    for part in path[:-1]:
        parent = parent[part]
    parent[path[-1]] = to
    return document


def test_a_document_validates_as_written_and_in_full(validator: Draft202012Validator) -> None:
    validator.validate(GENERATOR)
    validator.validate(validate(GENERATOR, Generator).to_dict())


@pytest.mark.parametrize(
    "document",
    [
        changed("kind", to="layred"),
        changed("z_dim", to=0),
        changed("z_dims", to=64),
        changed("mapping", to="hydra-na"),
        changed("mapping", "num_layer", to=4),
        changed("synthesis", 0, to="no-such-input"),
        changed("synthesis", 1, "attention", "num_heads", to="eight"),
        changed("synthesis", 1, "repeat", to=-1),
        changed("synthesis", to=None),
        [],
        {"z_dim": 64},
    ],
)
def test_the_schema_refuses_what_our_validation_refuses(validator: Draft202012Validator, document: Any) -> None:
    assert not validator.is_valid(document)
    with pytest.raises(SpecValidationError):
        validate(document, GAN, Generator, Discriminator)


def test_each_family_allows_its_kinds_by_name_and_in_full() -> None:
    definitions = schema(Generator)["$defs"]
    kinds = [entry.block.kind for entry in catalogue.entries("attention")]
    assert definitions["attention"]["anyOf"][0]["enum"] == kinds
    assert {"$ref": "#/$defs/attention.hydra-na"} in definitions["attention"]["anyOf"]
    hydra = definitions["attention.hydra-na"]
    assert hydra["required"] == ["kind"]
    assert hydra["additionalProperties"] is False
    assert hydra["properties"]["num_heads"]["description"]
    assert hydra["description"]


def test_a_plugin_installed_later_is_in_the_schema() -> None:
    with installed(*TOYS):
        validator = Draft202012Validator(schema(Layer))
        validator.validate(ToyLayer.Spec(parts=["toy-norm", "toy-attention"]).to_dict())
        validator.validate(
            {"kind": "toy-layer", "attention": "toy-attention", "norm": None, "rates": {"fast": 1}, "reach": [1, 2]}
        )
        assert not validator.is_valid({"kind": "toy-layer", "attention": "toy-norm"})
        assert not validator.is_valid({"kind": "toy-layer", "rates": {"fats": 1}})
    assert not Draft202012Validator(schema(Layer)).is_valid("toy-layer")

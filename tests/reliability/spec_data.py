"""Mutations of a spec as data: wrong values, other blocks, cycles, nesting, and values that are nearly valid."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from functools import cache
from typing import Any

from assemblies import GAN, Discriminator, Generator
from registry import Block, Spec, catalogue
from registry.slots import SLOT_MARKER

Place = tuple[Any, Any]  # a mapping or list, and a key or index of it

NUMBERS = [0, -1, 1, 2, 3, 7, 17, 64, 255, 1000, 4097, 10**6, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, 10**30]
NUMBERS += [-(2**31), -(2**63), 10**5000]
FLOATS = [0.0, -0.0, 0.5, -1.5, 1e-320, 1e-45, 1e30, 1e308, -1e308, math.inf, -math.inf, math.nan]
TEXTS = ["", " ", "\0", "\x1b[2J", "\ud800", "none", "null", "1", "1e999", "nan", "99999999999", "../../etc/passwd"]
TEXTS += ["hf-hub:a/b", "x" * 20_000, "\uff41", "0x10", "{message}", "a.b.c", "dense", "true"]
OTHERS: list[Any] = [None, True, False, [], {}, [[]], [{}], {"": 0}, {"kind": None}, {"kind": "dense"}, {1: 2}]
OTHERS += [{None: 0}, {(1, 2): 3}, b"bytes", {1, 2}, (), object, 3 + 4j]
VALUES = [*NUMBERS, *FLOATS, *TEXTS, *OTHERS]


def places(data: Any, seen: set[int] | None = None) -> list[Place]:
    """All places of a document; those in a list or mapping that occurs several times once."""
    seen = set() if seen is None else seen
    if not isinstance(data, dict | list) or id(data) in seen or len(seen) > 20_000:
        return []
    seen.add(id(data))
    own = [(data, key) for key in (list(data) if isinstance(data, dict) else range(len(data)))]
    return own + [inner for parent, key in own for inner in places(parent[key], seen)]


def blocks(data: Any) -> list[Place]:
    """The places of mappings with a kind."""
    mappings = [place for place in places(data) if isinstance(place[0][place[1]], dict)]
    return [(parent, key) for parent, key in mappings if isinstance(parent[key].get("kind"), str)]


def _any_place(rng: random.Random, data: Any) -> Place:
    return rng.choice(places(data) or [({0: data}, 0)])


def replace_value(rng: random.Random, data: Any) -> Any:
    parent, key = _any_place(rng, data)
    parent[key] = copy.copy(rng.choice(VALUES))
    return data


def replace_number(rng: random.Random, data: Any) -> Any:
    numbers = [(parent, key) for parent, key in places(data) if type(parent[key]) in (int, float)]
    if numbers:
        parent, key = rng.choice(numbers)
        value = parent[key]
        small = (
            value + 1,
            value - 1,
            value * 2,
            value // 2,
            -value,
            value * rng.choice((10, 1000, 10**6)),
            value + 0.5 if abs(value) < 2**1000 else value,  # larger integers have no float
        )
        parent[key] = rng.choice((*small, rng.choice(NUMBERS), rng.choice(FLOATS)))
    return data


def delete_key(rng: random.Random, data: Any) -> Any:
    parent, key = _any_place(rng, data)
    del parent[key]
    return data


def rename_key(rng: random.Random, data: Any) -> Any:
    mappings = [(parent, key) for parent, key in places(data) if isinstance(parent, dict)]
    if mappings:
        parent, key = rng.choice(mappings)
        names = [
            key[:-1] if isinstance(key, str) else "x",
            f"{key}s",
            rng.choice(("repeat", "dim", "kind", "norm", "x")),
        ]
        parent[rng.choice((*names, 1, None, "y" * 5000))] = parent.pop(key)
    return data


def swap_values(rng: random.Random, data: Any) -> Any:
    (parent1, key1), (parent2, key2) = _any_place(rng, data), _any_place(rng, data)
    first, second = copy.deepcopy(parent1[key1]), copy.deepcopy(parent2[key2])
    parent1[key1], parent2[key2] = second, first
    return data


def swap_blocks(rng: random.Random, data: Any) -> Any:
    if found := blocks(data):
        (parent1, key1), (parent2, key2) = rng.choice(found), rng.choice(found)
        parent1[key1], parent2[key2] = copy.deepcopy(parent2[key2]), copy.deepcopy(parent1[key1])
    return data


def other_kind(rng: random.Random, data: Any) -> Any:
    """A block gets another kind, of its family or of any."""
    if found := blocks(data):
        parent, key = rng.choice(found)
        kinds = [entry for entry in catalogue.entries() if entry.block.kind]
        same = [entry for entry in kinds if catalogue.get(entry.block.family_name, parent[key]["kind"])]
        block = rng.choice(same if same and rng.random() < 0.7 else kinds).block
        examples = [example.get("spec", {}) for example in getattr(block, "examples", ())]
        options = rng.choice((parent[key], {}, *examples))
        parent[key] = copy.deepcopy({**options, "kind": block.kind})
    return data


def set_option(rng: random.Random, data: Any) -> Any:
    """An option of a block, left out or not, gets a value."""
    if found := blocks(data):
        parent, key = rng.choice(found)
        kind = parent[key]["kind"]
        names = [
            name for entry in catalogue.entries() if entry.block.kind == kind for name in entry.block.Spec.model_fields
        ]
        values = rng.choice((NUMBERS, FLOATS, VALUES, [1, 2, 3, 4, 5, 8, 16, 1000, 65536], [None], ["dense", "sln"]))
        parent[key][rng.choice(names or ["repeat"])] = copy.copy(rng.choice(values))
    return data


def valid_option(rng: random.Random, data: Any) -> Any:
    """An option of a block gets another value of its type."""
    if found := blocks(data):
        parent, key = rng.choice(found)
        kind = parent[key]["kind"]
        specs = [entry.block.Spec for entry in catalogue.entries() if entry.block.kind == kind]
        if specs:
            schema = schema_of(rng.choice(specs))
            name = rng.choice(sorted(schema["properties"]))
            if name != "kind":
                parent[key][name] = value_of(rng, schema["properties"][name], schema.get("$defs", {}))
    return data


@cache
def schema_of(model: type[Spec]) -> dict[str, Any]:
    return model.model_json_schema()


def value_of(rng: random.Random, schema: dict[str, Any], definitions: dict[str, Any]) -> Any:
    """A value that a JSON schema allows, or nearly."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if choices := schema.get("anyOf"):
        return value_of(rng, rng.choice(choices), definitions)
    if families := schema.get(SLOT_MARKER):
        return block_of(rng, rng.choice(families))
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else None):
        return rng.choice(choices)
    match schema.get("type"):
        case "integer":
            return rng.choice((0, 1, 2, 3, 4, 5, 7, 8, 16, 31, 64, 512, 1000, 4096, 65536, 999_983, 2**30, 2**31 - 1))
        case "number":
            return rng.choice((0.0, 1e-30, 1e-3, 0.1, 0.5, 1.0, 2.0, 100.0, 1e10, 1e38, 1e300, -1.0))
        case "boolean":
            return rng.random() < 0.5
        case "null":
            return None
        case "array":
            items = schema.get("prefixItems") or [schema.get("items", {})] * rng.choice((0, 1, 1, 2, 2, 3, 5, 20))
            return [value_of(rng, each, definitions) for each in items]
        case "object":
            properties = schema.get("properties") or {"a": {"type": "string"}}
            return {name: value_of(rng, part, definitions) for name, part in properties.items() if rng.random() < 0.5}
        case _:
            return rng.choice(("auto", "reference", "none", "x", "pretrained"))


def block_of(rng: random.Random, family: str) -> Any:
    block = rng.choice(list(catalogue.entries(family))).block
    examples = [example.get("spec", {}) for example in getattr(block, "examples", ())]
    return copy.deepcopy({**rng.choice(({}, *examples)), "kind": block.kind})


def valid_kind(rng: random.Random, data: Any) -> Any:
    """A block is replaced by another of its family."""
    if found := blocks(data):
        parent, key = rng.choice(found)
        families = [family for family in Block.families if catalogue.get(family, parent[key]["kind"])]
        if families:
            parent[key] = block_of(rng, rng.choice(families))
    return data


def scale_number(rng: random.Random, data: Any) -> Any:
    if numbers := [(parent, key) for parent, key in places(data) if type(parent[key]) in (int, float)]:
        parent, key = rng.choice(numbers)
        parent[key] = max(1, parent[key]) * rng.choice((1, 2, 3, 4, 16, 1024, 10**6)) + rng.choice((0, 0, 1, -1))
    return data


def repeat_step(rng: random.Random, data: Any) -> Any:
    if found := [(parent, key) for parent, key in blocks(data) if isinstance(parent, list)]:
        parent, key = rng.choice(found)
        if rng.random() < 0.5:
            parent[key]["repeat"] = rng.choice((2, 3, 10, 100, 1000))
        else:
            parent[key:key] = [copy.deepcopy(parent[key]) for _ in range(rng.choice((1, 2, 5, 100)))]
    return data


def repeat_item(rng: random.Random, data: Any) -> Any:
    lists = [(parent, key) for parent, key in places(data) if isinstance(parent, list)]
    if lists:
        parent, key = rng.choice(lists)
        parent[key:key] = [copy.deepcopy(parent[key]) for _ in range(rng.choice((1, 2, 5, 300, 3000)))]
    return data


def shuffle_list(rng: random.Random, data: Any) -> Any:
    if lists := [parent[key] for parent, key in places(data) if isinstance(parent[key], list)]:
        rng.shuffle(rng.choice(lists))
    return data


def nest(rng: random.Random, data: Any) -> Any:
    parent, key = _any_place(rng, data)
    value, levels = parent[key], rng.choice((1, 2, 30, 45, 200))
    wrap: Callable[[Any], Any] = rng.choice(
        (lambda inner: [inner], lambda inner: {"kind": "residual", "layer": inner}, lambda inner: {"a": inner})
    )
    for _ in range(levels):
        value = wrap(value)
    parent[key] = value
    return data


def add_cycle(rng: random.Random, data: Any) -> Any:
    parent, key = _any_place(rng, data)
    parent[key] = rng.choice((data, parent))
    return data


def share(rng: random.Random, data: Any) -> Any:
    """Lists of one shared list: aliases of aliases in YAML."""
    parent, key = _any_place(rng, data)
    value = parent[key]
    for _ in range(rng.choice((2, 5, 30))):
        value = [value] * rng.choice((2, 9))
    parent[key] = value
    return data


def wrap_document(rng: random.Random, data: Any) -> Any:
    network = rng.choice((Generator, Discriminator, GAN))
    wrapped: tuple[Any, ...] = (
        {"kind": "gan", "generator": data, "discriminator": data},
        {"kind": "stages", "stages": [{"name": "a", "gan": data}, {"name": "b", "gan": copy.deepcopy(data)}]},
        {"kind": network.family_name},
        [data],
        data.get("generator", data) if isinstance(data, dict) else data,
        data.get("discriminator", data) if isinstance(data, dict) else data,
    )
    return rng.choice(wrapped)


def make_spec(rng: random.Random, data: Any) -> Any:
    """A mapping becomes a spec of Python, where it is valid."""
    if found := blocks(data):
        parent, key = rng.choice(found)
        kind = parent[key]["kind"]
        for family in Block.families:
            if isinstance(kind, str) and (entry := catalogue.get(family, kind)) is not None:
                try:
                    parent[key] = entry.block.Spec.model_validate(parent[key])
                except ValueError:
                    parent[key] = entry.block
                break
    return data


DATA_MUTATIONS = [replace_value, replace_number, replace_number, delete_key, rename_key, swap_values, swap_blocks]
DATA_MUTATIONS += [
    other_kind,
    other_kind,
    set_option,
    set_option,
    set_option,
    repeat_item,
    shuffle_list,
    nest,
    add_cycle,
]
DATA_MUTATIONS += [share, wrap_document, make_spec]
VALID_MUTATIONS = (
    [valid_option] * 6 + [valid_kind] * 3 + [scale_number, repeat_step, delete_key, shuffle_list, swap_blocks]
)
VALID_MUTATIONS += [make_spec]

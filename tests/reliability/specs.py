"""Mutated specs: what a file or a Python program may hold instead of a spec, from a seed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from assemblies import read
from registry import catalogue
from tests import tiny
from tests.reliability.spec_data import DATA_MUTATIONS, VALID_MUTATIONS, share
from tests.reliability.spec_text import TEXT_MUTATIONS


class Mutated(NamedTuple):
    """A mutated spec: the content of a file, or data of Python."""

    file: str  # the file's name; empty for data of Python
    content: bytes
    data: Any


def documents() -> dict[str, Any]:
    """Presets and small documents, by name."""
    small = {
        "tiny-gan": tiny.gan(),
        "tiny-generator": tiny.GENERATOR,
        "tiny-discriminator": tiny.DISCRIMINATOR,
        **{f"example-{kind}-{index}": document for kind, index, document in _examples()},
    }
    return small | {name: read(name).to_dict() for name in catalogue.presets()}


def _examples() -> Iterator[tuple[str, int, dict[str, Any]]]:
    """The examples of documents, and the examples of layers and heads inside a tiny GAN."""
    for entry in catalogue.entries():
        for index, example in enumerate(getattr(entry.block, "examples", ())):
            spec = {"kind": entry.block.kind, **example.get("spec", {})}
            if entry.block.family_name in ("gan", "multi-stage", "generator", "discriminator"):
                yield f"{entry.block.family_name}-{entry.block.kind}", index, spec
            elif entry.block.family_name in ("layer", "image-head"):
                document = copy.deepcopy(tiny.gan())
                document["generator"]["synthesis"].insert(2, spec)
                yield str(entry.block.kind), index, document
            elif entry.block.family_name in ("regularizer", "loss", "augment"):
                name = entry.block.family_name
                yield (
                    str(entry.block.kind),
                    index,
                    tiny.gan(**{f"{name}s": [spec]} if name == "regularizer" else {name: spec}),
                )


def mutated_spec(seed: int, index: int, sources: dict[str, Any]) -> Mutated:
    """The mutated spec of that index; the same for the same seed and documents."""
    rng = random.Random(f"{seed} {index}")
    presets = catalogue.presets()
    large = rng.random() < 0.1  # presets take longest
    data = copy.deepcopy(sources[rng.choice([name for name in sorted(sources) if (name in presets) == large])])
    shared = False
    mutations = rng.choice((DATA_MUTATIONS, VALID_MUTATIONS))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        mutation = rng.choice(mutations)
        data = mutation(rng, data)
        shared |= mutation is share
    forms = ("python", "json", "yaml")
    form = rng.choice(forms if mutations is VALID_MUTATIONS else (*forms, "text", "text", "text"))
    if form == "python" or (form == "json" and shared):  # which JSON would write out
        return Mutated("", b"", data)
    try:
        text = json.dumps(data, indent=1) if form == "json" else yaml.dump(data, sort_keys=False, width=120)
    except (TypeError, ValueError, RecursionError, yaml.YAMLError):  # data that only Python can hold
        return Mutated("", b"", data)
    if form == "text":
        for _ in range(rng.choice((1, 1, 2, 4))):
            change = rng.choice(TEXT_MUTATIONS)
            text = change(rng, text)
    suffix = "json" if form == "json" or rng.random() < 0.05 else "yaml"
    return Mutated(f"mutated.{suffix}", text.encode("utf-8", "surrogatepass"), None)

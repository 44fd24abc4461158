"""Hostile model files: claims of sizes, wrong dtypes, foreign metadata, external files, and mutated specs and bytes."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from assemblies import parse
from assemblies.model_file import FORMAT
from tests import tiny
from tests.reliability.mutations import mutated

Make = Callable[[], bytes]
TOWER: dict[str, Any] = {
    "embed_dim": 6,
    "vision_cfg": {"image_size": 8, "layers": 1, "width": 8, "head_width": 4, "patch_size": 4},
    "text_cfg": {"context_length": 5, "vocab_size": 100, "width": 4, "heads": 2, "layers": 1},
}
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
SIZES |= {"F8_E4M3": 1, "F8_E5M2": 1, "C64": 8, "U64": 8, "U32": 4, "U16": 2, "F4": 1, "X": 1}
VALUES: tuple[Any, ...] = (
    *(0, -1, 1, 3, 2**20, 2**31 - 1, 2**31, 2**63, 10**4000, 0.5, 1e308, float("inf"), float("nan"), None, True),
    *("", "x", "\x1b]0;x\x07", "x" * 10**6, [], [[]], [0] * 1000, {}, {"kind": "x"}, {"kind": "layered"}, [None]),
)


class ModelFile:
    """A file as its parts: the header of tensors, the metadata, and the bytes of the tensors.

    Args:
        document: Spec of a generator or discriminator.
        context: A discriminator's context.
    """

    def __init__(self, document: dict[str, Any], context: dict[str, Any] | None = None) -> None:
        torch.manual_seed(0)
        spec = parse(document)
        content = save({name: value.contiguous() for name, value in spec.build(**context or {}).state_dict().items()})
        length = int.from_bytes(content[:8], "little")
        self.header: dict[str, Any] = json.loads(content[8 : 8 + length])
        self.tensors = content[8 + length :]
        self.metadata: dict[str, Any] = {"spec": spec.to_dict(), "plugins": {}, "extra": {}}
        self.metadata |= {"value_range": "symmetric"} if context is None else {"context": context}

    def content(self, **metadata: Any) -> bytes:
        """The file; arguments replace entries of the `__metadata__`."""
        texts = {"format": FORMAT, "ganblocks": json.dumps(self.metadata)} | metadata
        return self.raw(json.dumps({"__metadata__": texts} | self.header).encode())

    def raw(self, header: bytes) -> bytes:
        header += b" " * (-len(header) % 8)
        return struct.pack("<Q", len(header)) + header + self.tensors

    def changed(self, change: Callable[[ModelFile], None]) -> bytes:
        twin = copy.deepcopy(self)
        change(twin)
        return twin.content()


def generator() -> ModelFile:
    return ModelFile(tiny.GENERATOR)


def discriminator() -> ModelFile:
    return ModelFile(tiny.DISCRIMINATOR, {"resolution": [16, 16], "image_channels": 3, "cond_dim": 0})


def _claims(file: ModelFile, dtype: str, gigabytes: float) -> bytes:
    """A file whose first tensor claims a size that the file does not have."""
    twin = copy.deepcopy(file)
    name = next(iter(twin.header))
    end = int(gigabytes * 2**30)
    twin.header[name] = {"dtype": dtype, "shape": [end // SIZES[dtype]], "data_offsets": [0, end]}
    return twin.content()


def _dtype(file: ModelFile, dtype: str) -> bytes:
    """A file whose tensors have another dtype, with as many bytes as that needs."""
    twin = copy.deepcopy(file)
    end = 0
    for entry in twin.header.values():
        count = 1
        for size in entry["shape"]:
            count *= size
        entry |= {"dtype": dtype, "data_offsets": [end, end + count * SIZES[dtype]]}
        end += count * SIZES[dtype]
    twin.tensors = bytes(end)
    return twin.content()


def _values(file: ModelFile, pattern: bytes) -> bytes:
    twin = copy.deepcopy(file)
    twin.tensors = (pattern * (len(twin.tensors) // len(pattern) + 1))[: len(twin.tensors)]
    return twin.content()


def _places(part: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values in a document."""
    entries = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for name, value in entries:
        yield (*path, name)
        yield from _places(value, (*path, name))


def _with_value(data: Any, path: tuple[Any, ...], value: Any) -> None:
    for name in path[:-1]:
        data = data[name]
    data[path[-1]] = value


def _mutated_spec(file: ModelFile, draw: random.Random) -> bytes:
    twin = copy.deepcopy(file)
    for _ in range(draw.choice((1, 1, 2))):
        _with_value(twin.metadata, draw.choice(list(_places(twin.metadata))), copy.deepcopy(draw.choice(VALUES)))
    return twin.content()


def _mutated_header(file: ModelFile, draw: random.Random) -> bytes:
    twin = copy.deepcopy(file)
    _with_value(twin.header, draw.choice(list(_places(twin.header))), copy.deepcopy(draw.choice(VALUES)))
    return twin.content()


def _with_layers(file: ModelFile, **step: Any) -> bytes:
    twin = copy.deepcopy(file)
    twin.metadata["spec"]["synthesis"][1] |= step
    return twin.content()


def _with_condition(file: ModelFile, **condition: Any) -> bytes:
    twin = copy.deepcopy(file)
    twin.metadata["spec"] |= {"cond_dim": 0, "condition": {"kind": "open-clip-text"} | condition}
    return twin.content()


def _with_backbone(**backbone: Any) -> bytes:
    twin = discriminator()
    twin.metadata["spec"] = {"kind": "projected", "networks": [{"kind": "timm"} | backbone]}
    return twin.content()


def _external(file: ModelFile, forbidden: Path) -> dict[str, Make]:
    path = str(forbidden)
    towers: dict[str, dict[str, Any]] = {
        "hf-hub": {"model": "hf-hub:evil/repository", "weights": "openai"},
        "local-dir": {"model": f"local-dir:{forbidden.parent}", "weights": "openai"},
        "a tag": {"model": "ViT-B-32", "weights": "openai"},
        "a path": {"model": TOWER, "weights": path},
        "a path, embedded": {"model": TOWER, "weights": path, "embed_weights": True},
        "a model of transformers": {"model": TOWER | {"text_cfg": {"hf_model_name": "evil/x"}}, "embed_weights": True},
        "a tokenizer": {
            "model": TOWER | {"text_cfg": TOWER["text_cfg"] | {"hf_tokenizer_name": "evil/x"}},
            "embed_weights": True,
        },
        "a network of timm": {
            "model": TOWER | {"vision_cfg": {"timm_model_name": "resnet18", "timm_model_pretrained": True}},
            "embed_weights": True,
        },
        "many layers": {"model": TOWER | {"text_cfg": TOWER["text_cfg"] | {"layers": 10**9}}, "embed_weights": True},
        "a long context": {
            "model": TOWER | {"text_cfg": TOWER["text_cfg"] | {"context_length": 10**5}},
            "embed_weights": True,
        },
        "a large vocabulary": {
            "model": TOWER | {"text_cfg": TOWER["text_cfg"] | {"vocab_size": 10**9}},
            "embed_weights": True,
        },
        "sizes that are text": {"model": TOWER | {"text_cfg": {"width": "x"}}, "embed_weights": True},
        "sizes that are infinite": {"model": TOWER | {"embed_dim": float("inf")}, "embed_weights": True},
        "unknown options": {"model": TOWER | {"text_cfg": {"__class__": 1}}, "embed_weights": True},
    }
    backbones: dict[str, dict[str, Any]] = {
        "published": {"network": "resnet18", "weights": "pretrained"},
        "a path": {"network": "resnet18", "weights": path},
        "hf-hub": {"network": "hf-hub:evil/repository", "weights": None},
        "local-dir": {"network": f"local-dir:{forbidden.parent}", "weights": None},
        "a checkpoint": {"network": "resnet18", "weights": None, "arguments": {"checkpoint_path": path}},
        "a configuration": {"network": "resnet18", "weights": None, "arguments": {"pretrained_cfg": path}},
        "a deep one": {"network": "vit_tiny_patch16_224", "weights": None, "arguments": {"depth": 10**9}},
        "a wide one": {"network": "vit_tiny_patch16_224", "weights": None, "arguments": {"embed_dim": 2**31 - 1}},
        "a large window": {
            "network": "swin_tiny_patch4_window7_224",
            "weights": None,
            "arguments": {"window_size": 224, "img_size": 4096},
        },
        "a large image": {"network": "vit_tiny_patch16_224", "weights": None, "image_size": 2**20},
    }
    return {
        **{f"tower: {name}": partial(_with_condition, file, **options) for name, options in towers.items()},
        **{f"backbone: {name}": partial(_with_backbone, **options) for name, options in backbones.items()},
    }


def _designed(file: ModelFile, forbidden: Path) -> dict[str, Make]:
    deep = "[" * 10**5 + "]" * 10**5
    spec = json.dumps(file.metadata["spec"])
    return {
        **{f"{size} GB of {dtype}": partial(_claims, file, dtype, size) for size in (3, 2**20) for dtype in SIZES},
        **{f"all of {dtype}": partial(_dtype, file, dtype) for dtype in SIZES},
        "NaN": partial(_values, file, b"\0\0\xc0\x7f"),
        "infinities": partial(_values, file, b"\0\0\x80\x7f"),
        "no metadata": lambda: file.raw(json.dumps(file.header).encode()),
        "metadata of torch": lambda: file.content(format="pt"),
        "metadata of another version": lambda: file.content(format="ganblocks-9"),
        "metadata that is empty": lambda: file.content(ganblocks=""),
        "metadata that is a list": lambda: file.content(ganblocks="[]"),
        "metadata that is deep": lambda: file.content(ganblocks=deep),
        "a spec that is deep": lambda: file.content(ganblocks='{"spec": {"kind": ' + deep + "}}"),
        "a spec of 10 MB": lambda: file.content(ganblocks='{"spec": {"kind": "' + "x" * 10**7 + '"}}'),
        "a key twice": lambda: file.content(ganblocks=f'{{"spec": {spec}, "spec": {{"kind": "layered"}}}}'),
        "an unknown kind": lambda: file.content(ganblocks='{"spec": {"kind": "\\u001b]0;x\\u0007"}}'),
        "an unknown plugin": lambda: file.content(
            ganblocks='{"spec": {"kind": "evil"}, "plugins": {"evil; rm -rf /": "\\u001b[31m"}}'
        ),
        "plugins that are numbers": lambda: file.content(ganblocks=f'{{"spec": {spec}, "plugins": {{"a": [1]}}}}'),
        "frozen that is text": lambda: file.content(ganblocks=f'{{"spec": {spec}, "frozen": {{"a": 1}}}}'),
        "a context": lambda: file.content(ganblocks=f'{{"spec": {spec}, "context": {{"x": 1}}}}'),
        "a value range": lambda: file.content(ganblocks=f'{{"spec": {spec}, "value_range": [1]}}'),
        "a header of 2^63 bytes": lambda: struct.pack("<Q", 2**63) + b"{}",
        "a header beyond the file": lambda: struct.pack("<Q", 10**6) + b"{}",
        "a deep header": lambda: file.raw(deep.encode()),
        "a header that is no JSON": lambda: file.raw(b"{'a': 1}"),
        "no tensors": lambda: file.changed(lambda twin: twin.header.clear()),
        "100,000 tensors": lambda: file.changed(
            lambda twin: twin.header.update(
                {f"x{index}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for index in range(100_000)}
            )
        ),
        "overlapping tensors": lambda: file.changed(
            lambda twin: [entry.update(data_offsets=[0, 64]) for entry in twin.header.values()] and None
        ),
        "many repeats": partial(_with_layers, file, repeat=10**6),
        "many heads": partial(_with_layers, file, attention={"kind": "dense", "num_heads": 2**31}),
        "a mapping of many layers": lambda: file.changed(
            lambda twin: twin.metadata["spec"]["mapping"].update(num_layers=10**6)
        ),
        "a large constant": lambda: file.changed(
            lambda twin: twin.metadata["spec"]["synthesis"][0].update(resolution=2**20, dim=2**20)
        ),
        "steps in thousands": lambda: file.changed(
            lambda twin: twin.metadata["spec"].update(synthesis=twin.metadata["spec"]["synthesis"] * 1000)
        ),
        "doublings of the resolution": lambda: file.changed(
            lambda twin: twin.metadata["spec"]["synthesis"].extend([{"kind": "upsample"}] * 30)
        ),
        **_external(file, forbidden),
    }


def hostile_model_files(count: int, forbidden: Path, seed: int) -> list[tuple[str, Make]]:
    """So many files, by name; at least a third of them are mutated.

    Args:
        count: Number of files.
        forbidden: A file that no model file may make the program open.
        seed: Random seed.
    """
    chance = random.Random(seed)
    files = {"generator": generator(), "discriminator": discriminator()}
    cases = list(_designed(files["generator"], forbidden).items())
    chance.shuffle(cases)
    cases = cases[: count * 2 // 3]
    changes: tuple[Callable[[ModelFile, random.Random], bytes], ...] = (
        _mutated_spec,
        _mutated_spec,
        _mutated_header,
        lambda file, draw: mutated(file.content(), draw),
    )
    while len(cases) < count:
        name = chance.choice([*files])
        change, draw = chance.choice(changes), random.Random(chance.random())
        cases.append((f"{name} {len(cases)}", partial(change, files[name], draw)))
    return cases

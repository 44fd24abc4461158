"""Model files: what is wrong with a file is reported before memory is allocated, and nothing outside of it is used."""

from __future__ import annotations

import json
import resource
import socket
import struct
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save, save_file

from assemblies import CheckpointError, load_discriminator, load_model, model_file, parse, save_model
from assemblies.model_file import FORMAT, load_tensors, read_metadata
from plugins import clip_towers, pretrained, timm_networks
from registry import IncompatibleError, SpecError, SpecValidationError
from registry.external_files import external_files
from tests import tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(tmp_path / "model.safetensors", parse(tiny.GENERATOR).build())
    return tmp_path / "model.safetensors"


def rewrite(path: Path, *, tensors: dict[str, Any] | None = None, header: Any = None, **metadata: Any) -> None:
    """Change tensors or entries of the metadata; `header` replaces the metadata as a whole."""
    with safe_open(path, framework="pt") as file:
        content = {name: file.get_tensor(name) for name in file.keys()} | (tensors or {})
        content = {name: value for name, value in content.items() if value is not None}
        known = json.loads(file.metadata()["ganblocks"]) | metadata
    text = {"format": FORMAT, "ganblocks": json.dumps(known)} if header is None else header
    path.write_bytes(save(content, metadata=text))


def test_a_model_file_is_read_as_it_was_written(model: Path) -> None:
    torch.manual_seed(0)
    expected = parse(tiny.GENERATOR).build().state_dict()
    loaded = load_model(model).state_dict()
    assert list(loaded) == list(expected)
    assert all(torch.equal(loaded[name], value) for name, value in expected.items())


def test_names_of_classes_are_kept_and_fit_the_generator(model: Path) -> None:
    generator = parse(tiny.GENERATOR | {"cond_dim": 2}).build()
    generator.name_classes(["cat", "dog"])
    save_model(model, generator)
    assert load_model(model).class_names == ("cat", "dog")
    for names, message in ((["cat"], "has 1 names, and the generator takes 2 classes"), ("cd", "a list of text")):
        rewrite(model, class_names=names)
        with pytest.raises(IncompatibleError, match=message):
            load_model(model)


def test_what_is_written_can_be_read_again(model: Path) -> None:
    generator = load_model(model)
    save_model(model, generator, {"seed": 2**64 - 1})
    assert read_metadata(model)["extra"] == {"seed": 2**64 - 1}
    before = model.read_bytes()
    for value in (2**64, float("nan"), "\udcff", "x" * 20_000):
        with pytest.raises(CheckpointError, match=r"extra\.value of its metadata (should be|is a text|contains)"):
            save_model(model, generator, {"value": value})
    assert model.read_bytes() == before


def test_tied_weights_are_written_twice(model: Path) -> None:
    generator = load_model(model)
    heads = [generator.get_submodule(f"synthesis.{index}") for index in (3, 6)]
    heads[1]._parameters |= heads[0]._parameters
    save_model(model, generator)
    loaded = load_model(model)
    assert all(torch.equal(value, generator.state_dict()[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({}, "without the metadata of a ganblocks model"),
        ({"format": "pt"}, "without the metadata of a ganblocks model"),
        ({"format": FORMAT}, "damaged metadata"),
        ({"format": FORMAT, "ganblocks": "{"}, "damaged metadata"),
        ({"format": FORMAT, "ganblocks": "[1]"}, "damaged metadata"),
        ({"format": FORMAT, "ganblocks": "{}"}, "damaged metadata"),
        ({"format": FORMAT, "ganblocks": '{"spec": 3}'}, "damaged metadata"),
        ({"format": FORMAT, "ganblocks": '{"spec": {}, "context": 3}'}, "damaged metadata: context"),
        ({"format": FORMAT, "ganblocks": '{"spec": {}, "plugins": [1]}'}, "damaged metadata: plugins"),
        ({"format": FORMAT, "ganblocks": "[" * 100_000}, "damaged metadata"),
        ({"format": FORMAT, "ganblocks": '{"spec": {"a": ' + "9" * 5000 + "}}"}, "damaged metadata"),
    ],
)
def test_missing_or_damaged_metadata_is_one_message(model: Path, header: dict[str, str], message: str) -> None:
    rewrite(model, header=header)
    for read in (load_model, read_metadata):
        with pytest.raises(CheckpointError, match=message) as caught:
            read(model)
        assert str(model) in str(caught.value)


@pytest.mark.parametrize(
    "context", [{}, {"resolution": "x"}, {"resolution": [16, -1]}, {"resolution": 16, "cond_dim": []}]
)
def test_a_damaged_context_is_an_error_of_the_spec(tmp_path: Path, context: dict[str, Any]) -> None:
    path = tmp_path / "d.safetensors"
    save_model(path, parse(tiny.DISCRIMINATOR).build(resolution=16, image_channels=3, cond_dim=0))
    rewrite(path, context=context)
    with pytest.raises(SpecError):
        load_discriminator(path)


NAME = "synthesis.0.value"


@pytest.mark.parametrize(
    "dtype", [torch.complex64, torch.bool, torch.int64, torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_weights_that_are_not_floating_point_are_refused(model: Path, dtype: torch.dtype) -> None:
    value = load_model(model).state_dict()[NAME]
    rewrite(model, tensors={NAME: value.to(dtype)})
    with pytest.raises(CheckpointError, match=rf"dtype of {NAME}: .* in the file, torch.float32 in the model"):
        load_model(model)
    network = parse(tiny.GENERATOR).build()
    with pytest.raises(CheckpointError, match=f"dtype of {NAME}"):
        load_tensors(network, network.state_dict() | {NAME: value.to(dtype)}, "x")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_weights_of_other_precision_are_converted(model: Path, dtype: torch.dtype) -> None:
    value = load_model(model).state_dict()[NAME]
    rewrite(model, tensors={NAME: value.to(dtype)})
    torch.testing.assert_close(load_model(model).state_dict()[NAME], value, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_reported(model: Path, bad: float) -> None:
    value = load_model(model).state_dict()[NAME].clone()
    value.view(-1)[0] = bad
    rewrite(model, tensors={NAME: value})
    with pytest.warns(UserWarning, match=f"1 tensors have values that are not finite, first {NAME}"):
        load_model(model)


def test_a_good_file_gives_no_warning(model: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model(model)


def test_a_small_file_of_a_huge_model_is_refused_without_memory(model: Path) -> None:
    huge = json.loads(json.dumps(tiny.GENERATOR)) | {
        "synthesis": [{"kind": "constant", "resolution": 4096, "dim": 64}, "to-rgb"]
    }
    rewrite(model, spec=parse(huge).to_dict())
    code = "import sys; from assemblies import CheckpointError, load_model\ntry: load_model(sys.argv[1])\n"
    code += "except CheckpointError as error: print(error)"
    limit = 2 * 2**30  # the constant alone has 4 GiB
    run = subprocess.run(
        [sys.executable, "-c", code, str(model)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    assert run.returncode == 0, run.stderr[-1000:]
    assert "does not match its spec" in run.stdout


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, struct.pack("<Q", 2**60) + b"{}", b"PK\x03\x04", b"\x80\x02."])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot be read as .safetensors"):
        load_model(tmp_path / "x.safetensors")


def test_names_in_messages_are_short_and_printable(model: Path) -> None:
    rewrite(model, tensors={"\x1b]0;title\x07" + "x" * 100_000: torch.ones(1)})
    with pytest.raises(CheckpointError) as caught:
        load_model(model)
    assert len(str(caught.value)) < 1000
    assert str(caught.value).replace("\n", "").isprintable()


def with_condition(path: Path, **condition: Any) -> None:
    """A generator's file with another condition in its spec."""
    document = parse(tiny.GENERATOR).to_dict() | {"cond_dim": 0, "condition": {"kind": "open-clip-text", **condition}}
    tensors: dict[str, torch.Tensor] = {"unknown": torch.zeros(1)}
    with suppress(SpecError), torch.device("meta"), external_files(allowed=False):
        state = parse(document).build().state_dict()  # tensors that fit, where the tower can be built without weights
        tensors = {name: torch.zeros(value.shape, dtype=value.dtype, device="cpu") for name, value in state.items()}
    rewrite(path, spec=document, tensors=tensors)


CONFIG = {
    "embed_dim": 6,
    "vision_cfg": {"image_size": 8, "layers": 1, "width": 8, "head_width": 4, "patch_size": 4},
    "text_cfg": {"context_length": 5, "vocab_size": 49408, "width": 4, "heads": 2, "layers": 1},
}
EXTERNAL: list[dict[str, Any]] = [
    {"model": "hf-hub:evil/repository", "weights": "openai"},
    {"model": "local-dir:/etc", "weights": "openai"},
    {"model": "ViT-B-32", "weights": "openai"},
    {"model": CONFIG, "weights": "PATH"},
    {"model": CONFIG | {"text_cfg": {"hf_model_name": "evil/repository"}}, "weights": None, "embed_weights": True},
    {"model": CONFIG | {"text_cfg": CONFIG["text_cfg"] | {"hf_tokenizer_name": "evil/repository"}}, "weights": "PATH"},
    {
        "model": CONFIG | {"vision_cfg": {"timm_model_name": "resnet18", "timm_model_pretrained": True}},
        "weights": None,
        "embed_weights": True,
    },
]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file may be opened by torch or safetensors, no address resolved."""

    def never(*args: Any, **_: Any) -> None:
        raise AssertionError(f"was called with {args}")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    monkeypatch.setattr(socket.socket, "connect", never)
    monkeypatch.setattr(pretrained, "read_file", never)
    for module in (clip_towers, timm_networks):
        monkeypatch.setattr(module, "cached_file", lambda repository, names: None)
    monkeypatch.delenv("GANBLOCKS_WEIGHTS", raising=False)


@pytest.mark.parametrize("condition", EXTERNAL, ids=range(len(EXTERNAL)))
def test_towers_that_a_file_names_are_neither_opened_nor_downloaded(
    model: Path, tmp_path: Path, offline: None, condition: dict[str, Any]
) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "weights.safetensors")
    path = str(tmp_path / "weights.safetensors")
    with_condition(model, **condition | ({"weights": path} if condition["weights"] == "PATH" else {}))
    with pytest.raises(SpecError, match=r"the model file wants .*--allow-external"):
        load_model(model)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"layers": 10**7}, r"model\.layers   is 10000000; at most 1,000 is possible"),
        ({"context_length": 50_000}, r"model\.context_length   is 50000; at most 8,192 is possible"),
        ({"width": 2**30}, "at most 1,048,576 is possible"),
    ],
)
def test_towers_of_impossible_sizes_are_refused(model: Path, section: dict[str, Any], message: str) -> None:
    config = CONFIG | {"text_cfg": CONFIG["text_cfg"] | section}
    with_condition(model, model=config, weights=None, embed_weights=True)
    with pytest.raises(SpecError, match=message):
        load_model(model)


def test_a_network_with_large_buffers_outside_of_its_file_is_refused(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_file, "MAX_BUFFERS", 100)
    with pytest.raises(CheckpointError, match=r"describes a network with .* GiB of buffers that are not in the file"):
        load_model(model)


BACKBONES: list[dict[str, Any]] = [
    {"network": "resnet18", "weights": "pretrained"},
    {"network": "resnet18", "weights": "PATH"},
]
REFUSED: list[dict[str, Any]] = [
    {"network": "hf-hub:evil/repository", "weights": None},
    {"network": "local-dir:/etc", "weights": None},
    *(
        {"network": "resnet18", "weights": None, "arguments": {name: value}}
        for name, value in {
            "checkpoint_path": "/etc/passwd",
            "pretrained": True,
            "pretrained_cfg": "a1_in1k",
            "cache_dir": "/tmp",
            "features_only": True,
            "in_chans": 4,
        }.items()
    ),
]


def projected(path: Path, **backbone: Any) -> None:
    document = {"kind": "projected", "networks": [{"kind": "timm", "network": "resnet18", "weights": None}]}
    spec = parse(document)
    with torch.device("meta"):
        network = spec.build(resolution=16, image_channels=3, cond_dim=0)
    state = {name: torch.zeros(value.shape, dtype=value.dtype) for name, value in network.state_dict().items()}
    save_file(state, path)
    document["networks"][0] |= backbone  # type: ignore[index]
    known = {"spec": parse(document).to_dict(), "context": {"resolution": [16, 16], "image_channels": 3, "cond_dim": 0}}
    path.write_bytes(save(state, metadata={"format": FORMAT, "ganblocks": json.dumps(known)}))


@pytest.mark.parametrize("backbone", BACKBONES, ids=range(len(BACKBONES)))
def test_backbones_that_a_file_names_are_neither_opened_nor_downloaded(
    tmp_path: Path, offline: None, backbone: dict[str, Any]
) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "weights.safetensors")
    path = str(tmp_path / "weights.safetensors")
    projected(tmp_path / "d.safetensors", **backbone | ({"weights": path} if backbone["weights"] == "PATH" else {}))
    with pytest.raises((SpecError, CheckpointError)) as caught:
        load_discriminator(tmp_path / "d.safetensors")
    assert "does not match its spec" in str(caught.value) or "--allow-external" in str(caught.value)


@pytest.mark.parametrize("backbone", REFUSED, ids=range(len(REFUSED)))
def test_arguments_that_open_files_are_refused_by_every_spec(offline: None, backbone: dict[str, Any]) -> None:
    spec = parse({"kind": "projected", "networks": [{"kind": "timm", **backbone}]})
    with pytest.raises((IncompatibleError, SpecValidationError), match=r"unknown network|is not an argument"):
        spec.build(resolution=16, image_channels=3, cond_dim=0)


def test_weights_in_the_working_folder_are_not_taken_for_published_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet18.pth").write_bytes(b"no weights")
    spec = parse({"kind": "projected", "networks": [{"kind": "timm", "network": "resnet18.a1_in1k"}]})
    with pytest.raises(IncompatibleError, match="cannot be downloaded"):
        spec.build(resolution=16, image_channels=3, cond_dim=0)

"""What a user gets wrong is reported in one message."""

from __future__ import annotations

import pytest
import yaml
from safetensors.torch import save

from ganblocks.cli import app
from registry import catalogue
from registry.catalogue import Catalogue
from tests import tiny


def broken(**changes):
    return yaml.safe_dump(tiny.gan(**changes))


BAD_SPECS = {
    "no YAML": ("kind: [gan", "is neither YAML nor JSON: line 1"),
    "a list": ("- kind: gan", "a spec is a mapping with `kind`, not list"),
    "binary": (b"\xff\xfe\x00\x01\x80", "is not a text file"),
    "empty": ("", "a spec is a mapping with `kind`, not NoneType"),
    "unknown kind": (broken(loss="hinged"), "loss   unknown loss 'hinged'; did you mean 'hinge'"),
    "misspelt option": (broken(batch_sise=8), "batch_sise   gan has no such option; did you mean 'batch_size'"),
    "wrong type": (broken(batch_size="many"), "batch_size   should be a valid integer, not 'many'"),
    "out of range": (broken(kimg=-1), "kimg   should be greater than 0, not -1"),
    "wrong family": (broken(loss="r1"), "loss   unknown loss 'r1'"),
    "incompatible": (
        broken(discriminator={"kind": "layered", "steps": [{"kind": "from-rgb", "dim": 8}]}),
        "discriminator.steps   no step outputs logits",
    ),
}


@pytest.mark.parametrize("command", ["show", "train"])
@pytest.mark.parametrize("case", BAD_SPECS)
def test_invalid_specs_are_reported(ganblocks, tmp_path, case, command):
    content, message = BAD_SPECS[case]
    path = tmp_path / "bad.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    more = [] if command == "show" else ["--data", "digits", "--out", tmp_path / "run"]
    code, out, err = ganblocks(command, path, *more)
    assert code == 2
    assert message in err
    assert out == ""
    assert len(err.splitlines()) <= 4
    assert not (tmp_path / "run").exists()


def test_unknown_specs_are_reported(ganblocks, tmp_path, monkeypatch):
    monkeypatch.setitem(catalogue.failures, "spiral (spiral-attention 1.0)", "ImportError: no module named spiral")
    code, _, err = ganblocks("show", "stylenat")
    assert code == 2
    assert "is neither a file nor a preset" in err
    failed = "plugins that failed to load (details: `ganblocks doctor`): spiral (spiral-attention 1.0): ImportError: no"
    assert failed in err
    assert failed in ganblocks("blocks", "spiral")[2]
    assert failed in ganblocks("train", "spiral-gan", "--data", "digits")[2]
    assert "is a folder" in ganblocks("show", tmp_path)[2]
    assert ganblocks("show", "my.yaml")[2].splitlines()[1].split() == ["(top)", "this", "file", "does", "not", "exist"]


def test_an_unknown_command_is_reported_with_the_plugins_that_failed_to_load(ganblocks, tmp_path, monkeypatch):
    (tmp_path / "bright.py").write_text("import nothing_of_this_name")
    about = tmp_path / "bright-1.5.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: bright\nVersion: 1.5\n")
    (about / "entry_points.txt").write_text("[ganblocks.commands]\nbrightness = bright\n")
    assert ganblocks("trian", "--seeds", 1) == (2, "", "unknown command 'trian'; did you mean 'train'?\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(app, "catalogue", Catalogue())
    code, out, err = ganblocks("brightness", "runs/mine")
    assert (code, out) == (2, "")
    assert err.startswith("unknown command 'brightness'; valid: attention-maps, ")
    assert err.endswith(
        "; plugins that failed to load (details: `ganblocks doctor`): brightness (bright 1.5): "
        "ModuleNotFoundError: No module named 'nothing_of_this_name'\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["blocks", "hydrana"], "unknown kind or family 'hydrana'; did you mean"),
        (["train", "gan.yaml", "--data", "no/such/folder"], "there is no folder or file no/such/folder"),
        (["train", "gan.yaml"], "no data to train on: give --data"),
        (["train"], "nothing to train: give a spec, or --resume"),
        (["train", "--resume", "--out", "nowhere"], "nowhere is not a folder, so there is nothing to resume"),
        (
            ["train", "gan.yaml", "--data", "digits", "--out", "gan.yaml/run"],
            "gan.yaml/run cannot be written to (Not a directory)",
        ),
        (["train", "gan.yaml", "--data", "digits", "--precision", "fp16", "--device", "cpu"], "fp16 needs a GPU"),
        (["train", "gan.yaml", "--data", "digits", "--precision", "fp8"], "fp8"),
        (
            ["estimate", "gan.yaml", "--flops", "1e12", "--like", "run"],
            "--flops and --like both say how fast",
        ),
        (["sample", "nowhere.safetensors"], "nowhere.safetensors does not exist"),
        (["sample", "."], "has no model.safetensors"),
        (
            ["push", "foreign.safetensors", "no name!"],
            "no name! is neither a file, nor a folder, nor a repository's name",
        ),
        (["push", "foreign.safetensors", "no name!", "--to-folder", "x"], "nor a repository's name such as"),
        (
            ["push", "absent.safetensors", "me/a", "--to-folder", "x", "--private"],
            "--private and --message are for the",
        ),
        (
            ["push", "absent.safetensors", "me/digits", "--license", "Apache 2.0"],
            "--license 'Apache 2.0' is no licence of the Hub; for a licence that it lacks, pass 'other' and add its "
            "text to the repository; did you mean 'apache-2.0'",
        ),
        (["sample", "foreign.safetensors"], "without the metadata of a ganblocks model"),
        (
            ["sample", "state.safetensors"],
            "state.safetensors is no model (ganblocks-training-1); pass a run folder, or",
        ),
        (["sample", "cut.safetensors"], "cannot be read as .safetensors"),
        (["sample", "gan.yaml"], "another format: pass a run folder or a model's .safetensors file"),
        (["sample", "foreign.safetensors", "--seeds", "1-x"], "--seeds 1-x: should be written like"),
        (["sample", "foreign.safetensors", "--seeds", "²"], "--seeds ²: should be written like"),
        (["sample", "foreign.safetensors", "--seeds", "0-9999999999"], "has 10,000,000,000 numbers or more; at most"),
        (["sample", "foreign.safetensors", "--seeds", str(2**64)], "numbers have to be less than 2^64"),
        (["truncation", "foreign.safetensors", "--psi", "0,nan"], "--psi 0,nan: should be numbers such as"),
        (["train", "gan.yaml", "--data", "b\udcff"], r"--data: b\udcff has bytes that are not UTF-8 text; rename"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_reported(ganblocks, gan_file, tmp_path, monkeypatch, arguments, message):
    import torch

    whole = save({"weight": torch.zeros(10)})
    (tmp_path / "foreign.safetensors").write_bytes(whole)
    (tmp_path / "cut.safetensors").write_bytes(whole[:20])
    state = save({"weight": torch.zeros(10)}, {"format": "ganblocks-training-1"})
    (tmp_path / "state.safetensors").write_bytes(state)
    monkeypatch.chdir(tmp_path)
    code, out, err = ganblocks(*arguments)
    assert code == 2
    assert message in err
    assert out == ""
    assert len(err.splitlines()) <= 8


@pytest.mark.parametrize("command", ["sample", "attention-maps", "evaluate"])
def test_a_device_that_is_absent_is_the_same_error_everywhere(command, ganblocks, model, tmp_path):
    options = ["--metrics", "digit"] if command == "evaluate" else ["--out", tmp_path / "out"]
    code, out, err = ganblocks(command, model, *options, "--device", "cuda:99")
    assert (code, out) == (2, "")
    assert err.startswith("the device 'cuda:99' cannot be used: ")

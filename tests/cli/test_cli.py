"""The command line lists, checks, trains and samples; what a user gets wrong is told in one message."""

from __future__ import annotations

import json
import subprocess
import sys

import jsonschema
import pytest
import yaml
from PIL import Image
from safetensors.torch import save

from assemblies import parse
from ganblocks import describe
from ganblocks import diagnosis as doctor
from ganblocks.cli import app as cli
from ganblocks.cli import sampling as picture_commands
from ganblocks.cli.tables import print_doctor
from registry import Block, catalogue
from tests import tiny


@pytest.fixture
def ganblocks(monkeypatch, capsys):
    """Runs the command; gives its exit code, and what it said on stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ganblocks", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        assert "pydantic" not in said.err
        return (0 if code is None else code), said.out, said.err

    return run


@pytest.fixture
def gan_file(tmp_path):
    path = tmp_path / "gan.yaml"
    path.write_text(yaml.safe_dump(tiny.gan()))
    return path


def test_help_comes_without_torch():
    program = (
        "import sys; sys.argv = ['ganblocks', '--help']\n"
        "from ganblocks.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pydantic', 'numpy', 'PIL', 'sklearn', 'matplotlib', 'accelerate'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    for command in ("blocks", "doctor", "schema", "presets", "show", "train", "sample"):
        assert command in ended.stdout


def test_the_version_is_told(ganblocks):
    code, out, _ = ganblocks("--version")
    assert (code, out.split()[0]) == (0, "ganblocks")


def test_blocks_lists_all_that_is_registered(ganblocks):
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
        found = describe.details_of(entry)
        json.dumps(found)
        assert {option["name"] for option in found["options"]} == set(entry.block.Spec.model_fields) - {"kind"}
        for parameter in found["options"] + found["context"]:
            assert parameter["type"], f"{entry.block.kind}.{parameter['name']}"
    code, out, _ = ganblocks("blocks", "hydra-na")
    assert code == 0
    for text in (
        "kernel_sizes",
        "list of integer > 0",
        "[7, 7]",
        "Heads of all partitions",
        "2211.05770",
        "resolution",
    ):
        assert text in out


def test_a_kind_of_two_families_is_shown_twice(ganblocks):
    _, out, _ = ganblocks("blocks", "layered", "--json")
    assert {each["family"] for each in json.loads(out)} == {"generator", "discriminator"}


def test_a_family_can_be_shown_alone(ganblocks):
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
def test_types_are_told_in_few_words(schema, words):
    assert describe.type_of(schema, {"Adam": {"properties": {"lr": {}, "eps": {}}}}) == words


def test_doctor_tells_kernels_and_what_failed(ganblocks, monkeypatch):
    monkeypatch.setitem(catalogue.failures, "spiral (spiral-attention 1.0)", "ImportError: no module named spiral")
    code, out, _ = ganblocks("doctor", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["failures"] == {"spiral (spiral-attention 1.0)": "ImportError: no module named spiral"}
    ops = {op["op"]: op["kernels"] for op in found["ops"]}
    for kernels in ops.values():
        (reference,) = [kernel for kernel in kernels if kernel["kernel"] == "reference"]
        assert reference["second_order"]
        assert reference["unavailable"] is None
    assert not next(kernel for kernel in ops["attention"] if kernel["kernel"] == "sdpa")["second_order"]
    assert found["versions"]["torch"]
    assert sum(plugin["blocks"] for plugin in found["plugins"]) == len(list(catalogue.entries()))
    _, table, _ = ganblocks("doctor")
    assert "spiral-attention 1.0) failed to load: ImportError" in table


def test_doctor_tells_why_a_kernel_is_unusable(capsys):
    found = doctor.diagnose()
    kernel = {
        "kernel": "fast",
        "package": "natten",
        "priority": 9,
        "second_order": False,
        "unavailable": "needs [cuda]",
    }
    print_doctor(found | {"ops": [{"op": "attention", "kernels": [kernel]}]})
    assert "no: needs [cuda]" in capsys.readouterr().out


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


def test_show_counts_what_is_built(ganblocks, gan_file):
    code, out, _ = ganblocks("show", gan_file, "--json")
    assert code == 0
    plan = json.loads(out)
    built = parse(tiny.gan()).build()
    sizes = {name: sum(p.numel() for p in getattr(built, name).parameters()) for name in ("generator", "discriminator")}
    assert {name: plan["totals"][name]["parameters"] for name in sizes} == sizes
    assert plan["totals"]["parameters"] == sum(sizes.values())
    assert plan["totals"]["multiply_adds"] == sum(step["multiply_adds"] for step in plan["steps"]) > 0
    by_path = {step["path"]: step for step in plan["steps"]}
    assert by_path["generator.synthesis.6"]["image"] == [3, 16, 16]
    assert by_path["generator.synthesis.1"]["num_styles"] == 1
    assert by_path["discriminator.steps.5"]["logits"] == [1]
    _, table, _ = ganblocks("show", gan_file)
    assert "generator.synthesis.4" in table
    assert f"{sizes['generator']:,}" in table


def test_show_tells_how_a_gan_is_trained(ganblocks, tmp_path):
    document = tiny.gan(
        regularizers=[{"kind": "r1", "every": 16}, "bcr"],
        augment={"kind": "ada", "magnitude": {"scale": 0.3}},
        style_mixing=0.9,
        discriminator_optimizer={"clip_norm": 5},
    )
    (tmp_path / "gan.json").write_text(json.dumps(document))
    training = json.loads(ganblocks("show", tmp_path / "gan.json", "--json")[1])["training"]
    assert training["regularizers"] == "r1 (every 16); bcr"
    assert training["augment"] == "ada (magnitude scale 0.3)"
    assert training["style_mixing"] == "0.9"
    assert (
        training["generator_optimizer"]
        == "lr 0.002, betas 0; 0.99, eps 1e-08, warmup_kimg 0, decay_kimg 0, clip_norm none"
    )
    assert "clip_norm 5" in ganblocks("show", tmp_path / "gan.json")[1]


def test_show_takes_a_network_alone(ganblocks, tmp_path):
    (tmp_path / "generator.json").write_text(json.dumps(tiny.GENERATOR))
    (tmp_path / "discriminator.json").write_text(json.dumps(tiny.DISCRIMINATOR))
    _, out, _ = ganblocks("show", tmp_path / "generator.json", "--json")
    assert {step["network"] for step in json.loads(out)["steps"]} == {"generator"}
    _, out, _ = ganblocks("show", tmp_path / "discriminator.json", "--json", "--resolution", 16)
    assert json.loads(out)["steps"][0]["features"] == [8, 16, 16]
    code, _, err = ganblocks("show", tmp_path / "discriminator.json")
    assert code == 2
    assert "--resolution" in err


def broken(**changes):
    return yaml.safe_dump(tiny.gan(**changes))


BAD_SPECS = {
    "no YAML": ("kind: [gan", "is neither YAML nor JSON: line 1"),
    "a list": ("- kind: gan", "a spec is a mapping with `kind`, not list"),
    "binary": (b"\xff\xfe\x00\x01\x80", "is not a text file"),
    "empty": ("", "a spec is a mapping with `kind`, not NoneType"),
    "unknown kind": (broken(loss="hinged"), "loss   no loss of kind 'hinged' is installed; did you mean hinge"),
    "misspelt option": (broken(batch_sise=8), "batch_sise   gan has no such option; did you mean batch_size"),
    "wrong type": (broken(batch_size="many"), "batch_size   should be a valid integer, not 'many'"),
    "out of range": (broken(kimg=-1), "kimg   should be greater than 0, not -1"),
    "wrong family": (broken(loss="r1"), "loss   no loss of kind 'r1' is installed"),
    "misfit": (
        broken(discriminator={"kind": "layered", "steps": [{"kind": "from-rgb", "dim": 8}]}),
        "discriminator.steps   no step outputs logits",
    ),
}


@pytest.mark.parametrize("command", ["show", "train"])
@pytest.mark.parametrize("case", BAD_SPECS)
def test_a_bad_spec_is_told_plainly(ganblocks, tmp_path, case, command):
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


def test_a_spec_that_is_nowhere_is_told_plainly(ganblocks, tmp_path):
    code, _, err = ganblocks("show", "stylenat")
    assert code == 2
    assert "is neither a file nor a preset" in err
    assert "is a folder" in ganblocks("show", tmp_path)[2]
    assert ganblocks("show", "my.yaml")[2].splitlines()[1].split() == ["(top)", "there", "is", "no", "such", "file"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["blocks", "hydrana"], "no kind and no family is called 'hydrana'; did you mean hydra-na"),
        (["train", "gan.yaml", "--data", "no/such/folder"], "there is no folder no/such/folder"),
        (["train", "gan.yaml"], "nothing to train on: give --data"),
        (["train"], "nothing to train: give a spec, or --resume"),
        (["train", "--resume", "--out", "nowhere"], "nowhere is no folder, so there is nothing to resume"),
        (
            ["train", "gan.yaml", "--data", "digits", "--out", "gan.yaml/run"],
            "gan.yaml/run cannot be written to (Not a directory)",
        ),
        (["train", "gan.yaml", "--data", "digits", "--precision", "fp16", "--device", "cpu"], "fp16 needs a GPU"),
        (["train", "gan.yaml", "--data", "digits", "--precision", "fp8"], "fp8"),
        (["sample", "nowhere.safetensors"], "nowhere.safetensors is not a file"),
        (["sample", "."], "has no model.safetensors"),
        (["sample", "foreign.safetensors"], "without the metadata of a ganblocks model"),
        (["sample", "cut.safetensors"], "cannot be read as .safetensors"),
        (["sample", "foreign.safetensors", "--seeds", "1-x"], "is not a list of seeds"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_user_gets_wrong_is_told_plainly(ganblocks, gan_file, tmp_path, monkeypatch, arguments, message):
    import torch

    whole = save({"weight": torch.zeros(10)})
    (tmp_path / "foreign.safetensors").write_bytes(whole)
    (tmp_path / "cut.safetensors").write_bytes(whole[:20])
    monkeypatch.chdir(tmp_path)
    code, out, err = ganblocks(*arguments)
    assert code == 2
    assert message in err
    assert out == ""
    assert len(err.splitlines()) <= 8


def test_our_own_mistakes_keep_their_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ganblocks", "blocks"])
    monkeypatch.setattr(describe, "families", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_a_gan_is_trained_resumed_and_sampled(ganblocks, gan_file, tmp_path):
    run = tmp_path / "run"
    common = ["--tick", 0.016, "--workers", 0]
    code, out, err = ganblocks("train", gan_file, "--data", "digits", "--out", run, "--kimg", 0.016, *common)
    assert code == 0
    assert "draw images with: ganblocks sample" in out
    assert "training on 1437 images of digits" in err
    assert "images/s" in err
    code, out, err = ganblocks("train", "--resume", "--out", run, "--kimg", 0.032, "--quiet", *common)
    assert (code, out, err) == (0, "", "")
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["images"] for record in records if record["event"] == "tick"] == [16, 32]
    assert records[0]["command"].startswith("ganblocks train ")
    assert records[0]["command"].endswith("--tick 0.016 --workers 0")
    code, out, _ = ganblocks("sample", run, "--seeds", "0-3,7", "--out", tmp_path / "grid.png", "--truncation-psi", 0.7)
    assert code == 0
    assert Image.open(tmp_path / "grid.png").size == (3 * 16 + 4, 2 * 16 + 2)
    code, _, err = ganblocks("sample", run, "--class", 1, "--out", tmp_path / "grid.png")
    assert code == 2
    assert "knows no classes" in err


@pytest.mark.parametrize(("text", "seeds"), [("0-3", [0, 1, 2, 3]), ("5", [5]), ("1, 4-5,2", [1, 4, 5, 2])])
def test_seeds_are_read(text, seeds):
    assert picture_commands.parse_seeds(text) == seeds

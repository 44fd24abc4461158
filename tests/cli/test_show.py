"""show prints the sizes that the built networks have."""

from __future__ import annotations

import json

from rich.console import Console

from assemblies import model_file, parse, read, save_model
from ganblocks import json_cache
from ganblocks.cli import show as command
from ganblocks.cli import tables
from registry.catalogue import Catalogue
from tests import tiny


def test_show_counts_what_is_built(ganblocks, gan_file):
    code, out, _ = ganblocks("show", gan_file, "--json")
    assert code == 0
    summary = json.loads(out)
    built = parse(tiny.gan()).build()
    sizes = {name: sum(p.numel() for p in getattr(built, name).parameters()) for name in ("generator", "discriminator")}
    assert {name: summary["totals"][name]["parameters"] for name in sizes} == sizes
    assert summary["totals"]["parameters"] == sum(sizes.values())
    assert summary["totals"]["multiply_adds"] == sum(step["multiply_adds"] for step in summary["steps"]) > 0
    by_path = {step["path"]: step for step in summary["steps"]}
    assert by_path["generator.synthesis.6"]["image"] == [3, 16, 16]
    assert by_path["generator.synthesis.1"]["num_styles"] == 1
    assert by_path["discriminator.steps.5"]["logits"] == [1]
    _, table, _ = ganblocks("show", gan_file)
    assert "generator.synthesis.4" in table
    assert f"{sizes['generator']:,}" in table


def test_show_prints_the_training_options(ganblocks, tmp_path):
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
        == "lr 0.002, betas 0; 0.99, eps 1e-08, weight_decay 0, warmup_kimg 0, decay_kimg 0, decay_fraction 0, "
        "base_width none, width none, clip_norm none"
    )
    assert "clip_norm 5" in ganblocks("show", tmp_path / "gan.json")[1]


def test_show_prints_schedules_as_curves(ganblocks, tmp_path):
    rates = {"kind": "linear", "init": 0.002, "final": 0.001, "kimg": 1}
    document = tiny.gan(kimg=2, generator_optimizer={"lr": rates})
    (tmp_path / "gan.json").write_text(json.dumps(document))
    ((name, values),) = json.loads(ganblocks("show", tmp_path / "gan.json", "--json")[1])["schedules"].items()
    assert name == "generator_optimizer.lr"
    assert values[0] == 0.002
    assert values[-12:] == [0.001] * 12
    (line,) = (each for each in ganblocks("show", tmp_path / "gan.json")[1].splitlines() if "▁" in each)
    assert line.split() == [name, "0.002", "█▇▇▆▆▅▄▄▃▃▂▁" + "▁" * 12, "0.001"]


def test_show_takes_a_single_network(ganblocks, tmp_path):
    (tmp_path / "generator.json").write_text(json.dumps(tiny.GENERATOR))
    (tmp_path / "discriminator.json").write_text(json.dumps(tiny.DISCRIMINATOR))
    _, out, _ = ganblocks("show", tmp_path / "generator.json", "--json")
    assert {step["network"] for step in json.loads(out)["steps"]} == {"generator"}
    _, out, _ = ganblocks("show", tmp_path / "discriminator.json", "--json", "--resolution", 16)
    assert json.loads(out)["steps"][0]["features"] == [8, 16, 16]
    code, _, err = ganblocks("show", tmp_path / "discriminator.json")
    assert code == 2
    assert "--resolution" in err


def test_show_and_init_read_runs_and_models(ganblocks, gan_file, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "gan.yaml").write_text(gan_file.read_text())
    model = tmp_path / "model.safetensors"
    save_model(model, parse(tiny.GENERATOR).build())
    of_file, of_run = (json.loads(ganblocks("show", source, "--json")[1]) for source in (gan_file, run))
    assert of_run["steps"] == of_file["steps"]
    of_model = json.loads(ganblocks("show", model, "--json", "--set", "w_dim=12")[1])
    assert of_model["family"] == "generator"
    assert of_model["totals"]["parameters"] == sum(
        p.numel() for p in parse(tiny.GENERATOR | {"w_dim": 12}).build().parameters()
    )
    (tmp_path / "mine.yaml").write_text(ganblocks("init", model)[1])
    assert read(tmp_path / "mine.yaml") == parse(tiny.GENERATOR)
    assert ganblocks("diff", model, tmp_path / "mine.yaml")[1] == "no differences\n"


def test_show_takes_the_size_of_a_discriminator_from_its_model_file(ganblocks, tmp_path, monkeypatch):
    read_files = []
    read_metadata = model_file.read_metadata
    monkeypatch.setattr(model_file, "read_metadata", lambda path: read_files.append(path) or read_metadata(path))
    discriminator = parse(tiny.gan()["discriminator"]).build(resolution=(16, 16), image_channels=1, cond_dim=0)
    save_model(tmp_path / "model.safetensors", discriminator)
    summary = json.loads(ganblocks("show", tmp_path / "model.safetensors", "--json")[1])
    parameters = sum(p.numel() for p in discriminator.parameters())
    assert summary["totals"]["discriminator"]["parameters"] == parameters
    assert read_files == [tmp_path / "model.safetensors"], "its metadata is read once"


def test_a_damaged_model_is_an_error_in_one_line(ganblocks, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"no model")
    code, out, err = ganblocks("show", tmp_path / "model.safetensors")
    assert (code, out) == (2, "")
    assert "model.safetensors" in err


def test_show_describes_a_spec_again_when_its_file_or_the_options_change(ganblocks, gan_file, tmp_path, monkeypatch):
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(json_cache, "catalogue", Catalogue())  # nothing is loaded
    described = []
    summary = {"steps": [], "totals": {}}
    monkeypatch.setattr(command, "describe_spec", lambda *arguments: described.append(arguments) or summary)
    for arguments, count in (((), 1), ((), 1), (("--set", "kimg=3"), 2), (("--resolution", 8), 3)):
        assert ganblocks("show", gan_file, *arguments)[0] == 0
        assert len(described) == count
    gan_file.write_text(gan_file.read_text() + "kimg: 3\n")
    ganblocks("show", gan_file)
    assert len(described) == 4


def test_show_fits_80_columns_with_options_that_differ_from_their_defaults(capsys, monkeypatch):
    monkeypatch.setattr(tables, "console", lambda: Console(width=80, highlight=False, emoji=False))
    tables.print_steps(command.describe_spec("stylenat-ffhq-256"))
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines if line.startswith(" generator.synthesis.2 ")]
    assert rows[0][:3] == ["generator.synthesis.2", "upsample-linear", "512x8x8"]
    assert "num_heads 16, kernel_sizes 7" in " ".join(" ".join(lines).split())
    assert [tables.compact(number) for number in (0, 999, 8320, 1_253_376, 25 * 10**9)] == [
        "0",
        "999",
        "8.32 k",
        "1.25 M",
        "25 G",
    ]

"""Ablations: variants, table and pictures; complete runs are not repeated."""

from __future__ import annotations

import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from assemblies import check, read
from benchmarks import measure
from benchmarks.ablations import __main__ as command
from benchmarks.ablations import report, runs, variants
from benchmarks.ablations.runs import Protocol, Result
from benchmarks.ablations.variants import STUDIES
from ganblocks import open_data

# what each variant of a preset changes, as the options that differ from the first variant, by the kinds that have them
DIFFERENCES = {
    "stylenat": {
        "1 partition, local": {("hydra-na", "dilations")},
        "4 partitions, local and global": {("hydra-na", "dilations")},
        "4 partitions, progressive": {("hydra-na", "dilations")},
        "8 partitions, progressive": {("hydra-na", "dilations")},
        "2 partitions, flips": {("gan", "flip")},
        "4 partitions, progressive, flips": {("hydra-na", "dilations"), ("gan", "flip")},
    },
    "styleformer": {
        "LayerNorm after attention": {("styled-attention", "layer_norm")},
        "no LayerNorm": {("styled-attention", "layer_norm")},
        "residual of the input": {("styled-attention", "residual")},
        "no residual": {("styled-attention", "residual")},
        "feed-forward": {("styled-attention", "feed_forward")},
    },
    "vitgan": {
        "dot-product attention": {("transformer", "attention")},
        "no spectral norm": {("layered", "weight_norm")},
        "no overlap": {("overlapping-patches", "overlap")},
        "no bCR": {("gan", "regularizers")},
        "w added to tokens": {("learned-tokens", "latent"), ("transformer", "norm"), ("norm", "norm")},
        "linear patches": {("layered", "synthesis")},
    },
    "stylegan-t": {
        "no residual convolutions": {("layered", "synthesis")},
        "first-order styles": {("modulated-conv", "style_order"), ("to-rgb", "style_order")},
        "text through the mapping": {("layered", "mapping")},
        "CLIP guidance": {("gan", "regularizers")},
    },
    "digits-positions": {
        "rotary": {("hydra-na", "relative_position_bias"), ("hydra-na", "rotary")},
        "bias and rotary": {("hydra-na", "rotary")},
        "no positions": {("hydra-na", "relative_position_bias")},
    },
}
DIFFERENCES["digits-vitgan"] = DIFFERENCES["vitgan"]


def differences(one, other, owner=()):
    """The options that differ in two documents, by the kind of the block that has them."""
    if isinstance(one, dict) and isinstance(other, dict) and one.get("kind") == other.get("kind"):
        return {
            found
            for name in one.keys() | other.keys()
            for found in differences(one.get(name), other.get(name), (one.get("kind"), name))
        }
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        if all(isinstance(each, dict) for each in (*one, *other)):
            return {found for pair in zip(one, other, strict=True) for found in differences(*pair, owner)}
    return set() if one == other else {owner}


def documents(study):
    return {name: build(kimg=5.0).to_dict() for name, build in STUDIES[study].variants.items()}


def results(**scores):
    names = {"whole": "whole", "bcr": "no bCR"}
    return [
        Result(names[name], seed, 3.0, 16, "cpu", 1.0, 1.0, score, 1000.0, {"recall": 0.25 * seed})
        for name, each in scores.items()
        for seed, score in enumerate(each)
    ]


@pytest.mark.parametrize("study", STUDIES)
def test_the_variants_of_a_study_fit_together_and_differ(study):
    specs = [build(kimg=6.0) for build in STUDIES[study].variants.values()]
    size = (32, 32) if STUDIES[study].data == "emoji" else (16, 16)
    assert all(spec.kimg == 6.0 and spec != other for index, spec in enumerate(specs) for other in specs[:index])
    for spec in specs:
        traces = check(spec)
        assert traces["discriminator"].complete
        assert traces["generator"].image[1:] == size


@pytest.mark.parametrize("study", STUDIES)
def test_the_variants_of_a_study_can_be_sent_to_processes(study):
    protocol, sent = pickle.loads(pickle.dumps((Protocol(Path("runs"), 5.0), STUDIES[study])))
    assert protocol == Protocol(Path("runs"), 5.0)
    assert {name: build(kimg=5.0).to_dict() for name, build in sent.variants.items()} == documents(study)


@pytest.mark.parametrize("study", DIFFERENCES)
def test_a_variant_changes_what_its_name_says_and_nothing_else(study):
    reference, *others = documents(study).values()
    expected = list(DIFFERENCES[study].values())
    assert [differences(reference, each) for each in others] == expected


@pytest.mark.parametrize("study", ["styleformer", "vitgan", "stylegan-t", "digits-vitgan"])
def test_the_first_variant_is_the_preset(study):
    preset = {"digits-vitgan": "mini-vitgan"}.get(study, f"emoji-{study}-32")
    assert next(iter(documents(study).values())) == read(preset).to_dict() | {"kimg": 5.0}


def test_partitions_differ_from_the_preset_in_heads_and_dilations():
    all_dilations = {}
    for name, document in documents("stylenat").items():
        assert differences(read("emoji-stylenat-32").to_dict() | {"kimg": 5.0}, document) <= {
            *(("hydra-na", "num_heads"), ("hydra-na", "dilations"), ("gan", "flip"))
        }
        attentions = [step["attention"] for step in document["generator"]["synthesis"] if "attention" in step][1:]
        assert {each["num_heads"] for each in attentions} == {8}
        all_dilations[name] = [each["dilations"] for each in attentions]  # at 8, 16 and 32 px
    assert all_dilations["2 partitions, local and global"] == [[1, 2], [1, 4], [1, 8]]
    assert all_dilations["4 partitions, progressive"] == [[1, 2, 2, 2], [1, 2, 4, 4], [1, 2, 4, 8]]
    assert all_dilations["8 partitions, progressive"][2] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_without_residual_connections_the_convolutions_remain():
    whole, plain, *_ = (each["generator"]["synthesis"] for each in documents("stylegan-t").values())
    assert [step.get("layer", step) for step in whole] == plain
    assert sum(step["kind"] == "residual" for step in whole) == 3


def test_guidance_is_added_to_the_regularizers():
    whole, *_, guided = (each["regularizers"] for each in documents("stylegan-t").values())
    assert guided[:-1] == whole
    assert (guided[-1]["kind"], guided[-1]["weight"]) == ("clip-guidance", 0.2)


def test_the_losses_of_a_pair_of_networks_are_the_only_difference():
    for networks in variants.NETWORKS:
        exact, *others = (
            variants.with_networks_and_loss(kimg=6.0, networks=networks, loss=loss) for loss in variants.LOSSES
        )
        for spec in others:
            assert spec.model_copy(update={"loss": exact.loss, "regularizers": exact.regularizers}) == exact


def test_the_table_has_mean_and_deviation_of_each_variant_in_their_order():
    lines = report.table(results(whole=[100.0, 200.0, 300.0], bcr=[400.0, 600.0, 800.0])).splitlines()
    assert lines[2:] == [
        "| whole | 200 ± 100 |  | 100, 200, 300 | 0.25 | 20.0% |",
        "| no bCR | 600 ± 200 | worse | 400, 600, 800 | 0.25 | 60.0% |",
    ]


@pytest.mark.parametrize(("scores", "verdict"), [([1, 2], "better"), ([2, 3], "overlap"), ([5, 9], "worse"), ([5], "")])
def test_a_variant_is_better_or_worse_only_if_all_of_its_runs_are(scores, verdict):
    assert report.compared(scores, [3, 4]) == verdict


@pytest.mark.parametrize("file", sorted((measure.RESULTS / "ablations").glob("*.json")), ids=lambda file: file.stem)
def test_the_page_has_the_table_of_the_results(file):
    rows = [Result(**row) for row in json.loads(file.read_text())["rows"]]
    assert report.table(rows) in (measure.ROOT / "docs" / "ablations.md").read_text()


def test_one_seed_has_no_deviation():
    assert report.table(results(whole=[100.0])).splitlines()[-1] == "| whole | 100 |  | 100 | 0.00 | 10.0% |"


def test_the_plot_has_a_dot_for_each_seed_and_labelled_axes(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    rows = results(whole=[100.0, 200.0, 300.0], bcr=[400.0, 600.0, 800.0])
    report.save_plot(rows, tmp_path / "scores.png", {"held-out images": 5.0})
    (axes,) = figures[0].axes
    dots = sorted(tuple(line.get_xdata()) for line in axes.lines if line.get_marker() == "o")
    assert dots == [(100.0, 200.0, 300.0), (400.0, 600.0, 800.0)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["no bCR", "whole"]  # from the bottom
    assert "Fréchet distance, no unit; lower is better" in axes.get_xlabel()
    assert "3 thousand images" in axes.get_xlabel()


class ConstantScore:
    floor = 1.0

    def distance(self, images, value_range):
        assert len(images) == runs.NUM_IMAGES
        return 100.0

    def ceiling(self, generator, seed):
        return 1000.0


@pytest.fixture
def small_study(monkeypatch):
    monkeypatch.setattr(runs, "NUM_IMAGES", 20)
    monkeypatch.setattr(runs, "score_of", lambda data: ConstantScore())
    monkeypatch.setattr(command, "score_of", lambda data: ConstantScore())
    study = STUDIES["digits-vitgan"]
    return replace(study, variants={name: study.variants[name] for name in ("whole", "linear patches")})


def test_the_command_writes_table_pictures_and_json(small_study, tmp_path, monkeypatch, capsys):
    output = tmp_path / "rows.json"
    arguments = ["digits-vitgan", "whole", "linear patches", "--seeds", "1", "--kimg", "0.016", "--batch-size", "8"]
    arguments += ["--processes", "1", "--device", "cpu", "--out", str(tmp_path), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["ablations", *arguments])
    command.main()
    assert "| linear patches | 100 |  | 100 |" in (tmp_path / "table.md").read_text()
    assert Image.open(tmp_path / "scores.png").width > 600
    assert Image.open(tmp_path / "samples.png").width > 16 * 16
    assert Image.open(tmp_path / "whole-0-0.016kimg-batch8" / "nearest.png").width > 16 * 16
    rows = json.loads(output.read_text())["rows"]
    assert [(row["variant"], row["batch_size"], row["score"]) for row in rows] == [
        ("whole", 8, 100.0),
        ("linear patches", 8, 100.0),
    ]
    log = (tmp_path / "whole-0-0.016kimg-batch8" / "log.jsonl").read_bytes()
    again = runs.measure_all(small_study, Protocol(tmp_path, 0.016, 8), seeds=2, processes=1)
    assert (tmp_path / "whole-0-0.016kimg-batch8" / "log.jsonl").read_bytes() == log
    assert {(each.variant, each.seed) for each in again} == {(name, i) for name in small_study.variants for i in (0, 1)}
    assert "4 runs of 0.016 thousand images, 2 to do" in capsys.readouterr().out


def test_samples_of_text_variants_have_the_same_captions_evenly_from_the_data(monkeypatch):
    generator = SimpleNamespace(condition_of=lambda captions: captions)
    data = open_data("emoji", resolution=32, captions=True)
    captions = runs.conditions(generator, STUDIES["stylegan-t"], "emoji", 3)
    assert captions == [data.caption(index, 0.0) for index in (0, len(data) // 3, 2 * len(data) // 3)]
    assert runs.conditions(generator, STUDIES["styleformer"], "emoji", 3) is None

"""Ablations on digits: variants, table and picture; complete runs are not repeated."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from PIL import Image

from assemblies import check, read

FILE = Path(__file__).parents[2] / "examples" / "digits_ablation.py"


@pytest.fixture
def ablation():
    spec = importlib.util.spec_from_file_location("digits_ablation", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def results(ablation, **scores):
    names = {"whole": "whole", "bcr": "no bCR"}
    return [
        ablation.Result(names[name], seed, 3.0, score, 1000.0)
        for name, each in scores.items()
        for seed, score in enumerate(each)
    ]


def test_the_table_has_mean_and_deviation_of_each_variant_in_their_order(ablation):
    lines = ablation.table(results(ablation, whole=[100.0, 200.0, 300.0], bcr=[400.0, 600.0, 800.0])).splitlines()
    assert lines[2:] == [
        "| whole | 200 ± 100 | 100, 200, 300 | 20% |",
        "| no bCR | 600 ± 200 | 400, 600, 800 | 60% |",
    ]


def test_one_seed_has_no_deviation(ablation):
    assert ablation.table(results(ablation, whole=[100.0])).splitlines()[-1] == "| whole | 100 | 100 | 10% |"


def test_the_picture_has_a_dot_for_each_seed_and_labelled_axes(ablation, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    runs = results(ablation, whole=[100.0, 200.0, 300.0], bcr=[400.0, 600.0, 800.0])
    ablation.save_plot(runs, tmp_path / "ablation.png", {"held-out digits": 5.0})
    (axes,) = figures[0].axes
    dots = sorted(tuple(line.get_xdata()) for line in axes.lines if line.get_marker() == "o")
    assert dots == [(100.0, 200.0, 300.0), (400.0, 600.0, 800.0)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["no bCR", "whole"]  # from the bottom
    assert "Fréchet distance, no unit; lower is better" in axes.get_xlabel()
    assert "3 thousand images" in axes.get_xlabel()


def test_the_picture_is_written(ablation, tmp_path):
    ablation.save_plot(
        results(ablation, whole=[100.0, 200.0]), tmp_path / "new" / "ablation.png", {"held-out digits": 5.0}
    )
    assert Image.open(tmp_path / "new" / "ablation.png").width > 600


def test_complete_runs_are_not_repeated_and_more_seeds_are_added(ablation, tmp_path, monkeypatch, capsys):
    class ConstantScore:
        floor = 1.0

        def __init__(self, resolution):
            assert resolution == 16

        def score(self, generator):
            return 100.0

        def ceiling(self, generator, seed):
            return 1000.0

    variants = {name: ablation.STUDIES["vitgan"].variants[name] for name in ("whole", "linear patches")}
    monkeypatch.setattr(ablation, "DigitScore", ConstantScore)
    monkeypatch.setitem(ablation.STUDIES, "vitgan", ablation.Study(variants, kimg=0.03))
    first = ablation.measure_all("vitgan", tmp_path, seeds=1, kimg=0.03, jobs=1)
    assert [(each.variant, each.seed) for each in first] == [("whole", 0), ("linear patches", 0)]
    assert all((tmp_path / f"{name}-0-0.03kimg" / "grid.png").exists() for name in ("whole", "linear-patches"))
    log = (tmp_path / "whole-0-0.03kimg" / "log.jsonl").read_bytes()
    again = ablation.measure_all("vitgan", tmp_path, seeds=2, kimg=0.03, jobs=1)
    assert (tmp_path / "whole-0-0.03kimg" / "log.jsonl").read_bytes() == log
    assert {(each.variant, each.seed) for each in again} == {(name, seed) for name in variants for seed in (0, 1)}
    assert "4 runs of 0.03 thousand images, 2 to do" in capsys.readouterr().out


def test_every_variant_of_vitgan_changes_one_option_of_the_preset(ablation):
    assert [len(options) for options in ablation.VITGAN.values()] == [0, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("study", ["vitgan", "r3gan", "positions"])
def test_the_variants_of_a_study_fit_together_and_differ(ablation, study):
    specs = [build(kimg=6.0) for build in ablation.STUDIES[study].variants.values()]
    assert all(spec.kimg == 6.0 and spec != other for index, spec in enumerate(specs) for other in specs[:index])
    for spec in specs:
        assert check(spec)["discriminator"].complete


def test_the_losses_of_a_pair_of_networks_are_the_only_difference(ablation):
    for networks in ablation.NETWORKS:
        exact, *others = (
            ablation.with_networks_and_loss(kimg=6.0, networks=networks, loss=loss) for loss in ablation.LOSSES
        )
        for spec in others:
            assert spec.model_copy(update={"loss": exact.loss, "regularizers": exact.regularizers}) == exact


def test_positions_change_the_hydra_blocks_only(ablation):
    bias, rotary = (ablation.with_positions(kimg=6.0, **ablation.HYDRA[name]).to_dict() for name in ("bias", "rotary"))
    assert bias == read("mini-stylenat").to_dict() | {"kimg": 6.0}
    changed = [step["attention"] for step in rotary["generator"]["synthesis"] if step.get("attention")]
    assert [(each["kind"], each.get("rotary", False)) for each in changed] == [
        ("dense", False),
        ("hydra-na", True),
        ("hydra-na", True),
    ]
    assert not any(each["relative_position_bias"] for each in changed[1:])

"""The ablation of ViTGAN: variants, table and picture; complete runs are not repeated."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from PIL import Image

FILE = Path(__file__).parents[2] / "examples" / "vitgan_ablation.py"


@pytest.fixture
def ablation():
    spec = importlib.util.spec_from_file_location("vitgan_ablation", FILE)
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


def test_the_table_has_mean_and_deviation_of_each_variant_in_the_order_of_the_variants(ablation):
    lines = ablation.table(results(ablation, bcr=[400.0, 600.0, 800.0], whole=[100.0, 200.0, 300.0])).splitlines()
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
    runs = results(ablation, bcr=[400.0, 600.0, 800.0], whole=[100.0, 200.0, 300.0])
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

    monkeypatch.setattr(ablation, "DigitScore", ConstantScore)
    monkeypatch.setattr(ablation, "VARIANTS", {"whole": {}, "linear patches": {"image_head": "linear"}})
    first = ablation.measure_all(tmp_path, seeds=1, kimg=0.03, jobs=1)
    assert [(each.variant, each.seed) for each in first] == [("whole", 0), ("linear patches", 0)]
    assert all((tmp_path / f"{name}-0-0.03kimg" / "grid.png").exists() for name in ("whole", "linear-patches"))
    log = (tmp_path / "whole-0-0.03kimg" / "log.jsonl").read_bytes()
    again = ablation.measure_all(tmp_path, seeds=2, kimg=0.03, jobs=1)
    assert (tmp_path / "whole-0-0.03kimg" / "log.jsonl").read_bytes() == log
    assert {(each.variant, each.seed) for each in again} == {
        (name, seed) for name in ablation.VARIANTS for seed in (0, 1)
    }
    assert "4 runs of 0.03 thousand images, 2 to do" in capsys.readouterr().out


def test_every_variant_changes_one_option_of_the_preset(ablation):
    assert [len(options) for options in ablation.VARIANTS.values()] == [0, 1, 1, 1, 1, 1, 1]
    specs = [ablation.mini_vitgan(**options) for options in ablation.VARIANTS.values()]
    assert all(spec != other for index, spec in enumerate(specs) for other in specs[:index])

"""Power-function averages: the recurrence, snapshots, and averages of other widths reconstructed from them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from assemblies import load_model
from ganblocks.errors import RunError, UsageError
from ganblocks.training import ema
from ganblocks.training.run import averages
from ganblocks.training.run.averages import AverageSnapshots, Profile, average, closest_sum, inner_product
from ganblocks.training.run.snapshots import save_run_model
from tests import tiny
from tests.cli.conftest import ganblocks  # noqa: F401 (a fixture)
from tests.training.conftest import different_tensors, new_trainer, run

WIDTHS = (0.05, 0.1)
AVERAGED = tiny.gan(ema={"sigma_rel": WIDTHS, "snapshot_kimg": 0.016, "snapshots": 3})


def steps_weights(sigma_rel, steps):
    """The weight of each of the steps 1, 2, ... in an average, in closed form."""
    edges = (np.arange(steps + 1) / steps) ** (ema.power_gamma(sigma_rel) + 1)
    return np.diff(edges)


def trained(steps, sigma_rel, value):
    """The recurrence over weights `value(step)`, in float64."""
    source, target = nn.Linear(1, 1, bias=False).double(), nn.Linear(1, 1, bias=False).double()
    for step in range(1, steps + 1):
        nn.init.constant_(source.weight, value(step))
        ema.update(target, source, ema.power_decay(sigma_rel, step))
    return target.weight.item()


@pytest.mark.parametrize(("sigma_rel", "gamma"), [(0.05, 16.97), (0.1, 6.94)])
def test_gamma_has_the_values_of_the_paper(sigma_rel, gamma):
    assert ema.power_gamma(sigma_rel) == pytest.approx(gamma, abs=5e-3)


@pytest.mark.parametrize("sigma_rel", [0.02, 0.1, 0.28])
def test_sigma_rel_is_the_standard_deviation_of_the_weights(sigma_rel):
    weights, time = steps_weights(sigma_rel, 100_000), (np.arange(100_000) + 0.5) / 100_000
    assert weights.sum() == pytest.approx(1)
    mean = weights @ time
    assert np.sqrt(weights @ (time - mean) ** 2) == pytest.approx(sigma_rel, rel=1e-6)


@pytest.mark.parametrize("sigma_rel", WIDTHS)
def test_the_recurrence_has_its_closed_form(sigma_rel):
    def value(step):
        return np.sin(step / 7) + step / 50

    values = [value(step) for step in range(1, 201)]
    assert trained(200, sigma_rel, value) == pytest.approx(steps_weights(sigma_rel, 200) @ values, rel=1e-12)


def test_inner_products_agree_with_a_sum_over_time():
    a, b = Profile(3.0, 600), Profile(7.5, 1000)
    time = (np.arange(1_000_000) + 0.5) / 1000
    weights = [
        np.where(time < each.step, (each.gamma + 1) * time**each.gamma / each.step ** (each.gamma + 1), 0)
        for each in (a, b)
    ]
    assert inner_product(a, b) == inner_product(b, a) == pytest.approx(weights[0] @ weights[1] / 1000, rel=1e-8)


def test_factors_are_those_of_a_least_squares_fit_over_time():
    profiles = [Profile(ema.power_gamma(width), step) for step in (250, 500, 750, 1000) for width in WIDTHS]
    target = Profile(ema.power_gamma(0.15), 1000)
    time = (np.arange(200_000) + 0.5) / 200
    weights = np.stack(
        [np.where(time < p.step, (p.gamma + 1) / p.step * (time / p.step) ** p.gamma, 0) for p in (*profiles, target)],
        1,
    )
    columns, last, right = weights[:, :-2], weights[:, -2:-1], weights[:, -1]  # the last factor is 1 minus the others
    expected = np.linalg.lstsq(columns - last, right - last[:, 0])[0]
    factors, error = closest_sum(profiles, target)
    np.testing.assert_allclose(factors, [*expected, 1 - expected.sum()], atol=1e-6)
    assert error == pytest.approx(np.linalg.norm(weights[:, :-1] @ factors - right) / np.linalg.norm(right), rel=1e-5)


@pytest.mark.parametrize("sigma_rel", [0.07, 0.15])
def test_a_smooth_trajectory_is_averaged_over_any_width(sigma_rel):
    def value(step):
        return np.log(step) + np.cos(step / 300)

    snapshots = [(width, step) for step in range(100, 3201, 100) for width in WIDTHS]
    values = {width: {} for width in WIDTHS}
    for width in WIDTHS:
        total = 0.0
        for step in range(1, 3201):
            total += (value(step) - total) * (1 - ema.power_decay(width, step))
            values[width][step] = total
    factors, error = closest_sum(
        [Profile(ema.power_gamma(width), step) for width, step in snapshots], Profile(ema.power_gamma(sigma_rel), 3200)
    )
    assert error < 0.003
    reconstructed = sum(factor * values[width][step] for factor, (width, step) in zip(factors, snapshots, strict=True))
    exact = steps_weights(sigma_rel, 3200) @ [value(step) for step in range(1, 3201)]
    assert reconstructed == pytest.approx(exact, rel=2e-5)


def test_snapshots_double_their_interval_when_there_are_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(averages, "save_run_model", lambda path, *_: path.write_text("model"))
    trainer = new_trainer(AVERAGED)
    whole, parts = AverageSnapshots(tmp_path / "a", trainer, {}), AverageSnapshots(tmp_path / "b", trainer, {})
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
    for steps, snapshots in ((range(1, 24), whole), ([*range(1, 16), *range(13, 24)], parts)):
        for step in steps:
            if step == 13 and snapshots is parts:
                parts.drop_after(96)
            trainer.step = step
            snapshots.step(8 * (step - 1))
    assert list(whole.files()) == [64, 128]
    assert whole.files().keys() == parts.files().keys()


def test_averages_continue_exactly_and_are_reconstructed(tmp_path, ganblocks):  # noqa: F811
    whole = run(AVERAGED, tmp_path / "whole", steps=6)
    run(AVERAGED, tmp_path / "parts", steps=4)
    run(None, tmp_path / "parts", steps=6, resume=True)
    assert different_tensors(tmp_path / "whole", tmp_path / "parts") == []
    names = sorted(path.name for path in (tmp_path / "whole" / "averages").iterdir())
    assert names == [
        f"{kimg}kimg-{width}.safetensors" for kimg in ("000000.016", "000000.032", "000000.048") for width in WIDTHS
    ]
    for name in names:
        a, b = (load_model(tmp_path / folder / "averages" / name) for folder in ("whole", "parts"))
        assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    record = average(whole.folder, 0.1)
    assert record.error < 1e-6
    stored = load_model(whole.folder / "averages" / names[-1])
    for x, y in zip(stored.parameters(), load_model(record.out).parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-6)
    code, out, _ = ganblocks(
        "average", whole.folder, "--sigma-rel", 0.15, "--out", tmp_path / "wide.safetensors", "--json"
    )
    assert code == 0
    assert json.loads(out)["snapshots"] == 6
    assert not torch.equal(next(load_model(tmp_path / "wide.safetensors").parameters()), next(stored.parameters()))


def test_a_training_ends_with_a_snapshot_also_after_a_save_at_its_last_log_line(tmp_path):
    run(AVERAGED, tmp_path / "run", steps=3, save_every_seconds=0.0, log_every_kimg=0.008)
    names = {path.name for path in (tmp_path / "run" / "averages").iterdir()}
    assert names >= {f"000000.024kimg-{sigma_rel:g}.safetensors" for sigma_rel in WIDTHS}


def test_what_cannot_be_averaged(finished, tmp_path):
    with pytest.raises(RunError, match=r"has no snapshots of power-function averages; train with --set ema\.sigma_rel"):
        average(finished.folder, 0.1)
    with pytest.raises(RunError, match="nowhere is not the folder of a training; give one that `ganblocks"):
        average(tmp_path / "nowhere", 0.1)
    trainer = new_trainer(AVERAGED)
    trainer.step = 2
    (tmp_path / "averages").mkdir()
    path = tmp_path / "averages" / "000000.016kimg-0.1.safetensors"
    save_run_model(path, trainer, {"sigma_rel": 0.1}, trainer.power_averages[0.1])
    with pytest.raises(UsageError, match=r"sigma_rel: 0\.3 is out of range"):
        average(tmp_path, 0.3)
    with pytest.raises(UsageError, match=r"kimg: 1 is out of range; the newest snapshot is of 0\.016 kimg"):
        average(tmp_path, 0.1, kimg=1)
    assert [each.name for each in tmp_path.iterdir()] == ["averages"]

"""The collapse alarm: a collapsed generator, logits that separate or diverge; none in a healthy run."""

from __future__ import annotations

import pytest
import torch

from assemblies import GAN
from ganblocks.publishing.report import report
from ganblocks.training.logs import collapse
from ganblocks.training.logs.collapse import PATIENCE, WARM_UP, CollapseAlarm, diversity
from tests import tiny
from tests.training.conftest import log_records, run

HEALTHY = {"logits/real": 0.5, "logits/fake": -0.5, "collapse/separated": 0.7, "collapse/diversity": 0.9}


def alarms_of(rows, alarm=None):
    """The names of the alarms at each log line."""
    alarm = alarm or CollapseAlarm()
    return [set(alarm.add(HEALTHY | row)) for row in rows]


def test_diversity_is_the_mean_distance_of_features():
    pictures = torch.zeros(3, 3, 16, 16, dtype=torch.uint8)
    pictures[1:] = 10
    distance = 10 * (3 * 8 * 8) ** 0.5
    assert diversity(pictures) == pytest.approx(2 / 3 * distance)

    def brightness(images):
        return images.float().mean((1, 2, 3))[:, None]

    assert diversity(pictures, brightness) == pytest.approx(20 / 3)


@pytest.mark.parametrize(
    ("name", "row"),
    [("separated", {"collapse/separated": 1.0}), ("diversity", {"collapse/diversity": 0.1})],
)
def test_an_alarm_needs_several_log_lines_in_a_row(name, row):
    expected = [set()] * PATIENCE + [{name}] * 2 + [set()]
    assert alarms_of([{}] + [row] * (PATIENCE + 1) + [{}]) == expected
    assert not any(alarms_of([{}] + ([row] * (PATIENCE - 1) + [{}]) * 3))


def test_samples_may_become_diverse_slowly():
    low = {"collapse/diversity": 0.1}
    assert not any(alarms_of([low] * (WARM_UP - 1) + [{}] * 3))
    assert alarms_of([low] * WARM_UP)[-2:] == [set(), {"diversity"}]


def test_logits_diverge_where_their_distance_is_large_and_grows():
    growing = [{"logits/real": 40.0 + step, "logits/fake": -20.0} for step in range(PATIENCE)]
    assert alarms_of(growing)[-1] == {"gap"}
    assert not any(alarms_of([growing[0]] * 9))
    assert not any(alarms_of([{"logits/real": step, "logits/fake": -step} for step in range(9)]))


def test_a_resumed_alarm_continues():
    rows = [{"collapse/diversity": 0.9}, *[{"collapse/diversity": 0.1}] * PATIENCE]
    resumed = CollapseAlarm([{"losses": {}, "signals": row} for row in rows[:-1]])
    assert alarms_of(rows)[-1] == alarms_of(rows[-1:], resumed)[0] == {"diversity"}


def test_a_collapsed_generator_raises_the_alarm(tmp_path, monkeypatch, capfd):
    original = GAN.Spec.build

    def build(spec):
        gan = original(spec)
        gan.generator.mapping.register_forward_hook(lambda _module, _inputs, ws: torch.zeros_like(ws))
        return gan

    monkeypatch.setattr(GAN.Spec, "build", build)
    monkeypatch.setattr(collapse, "WARM_UP", 6)
    run(tiny.gan(regularizers=[]), tmp_path / "run", steps=7, log_every_kimg=0.008, quiet=False)
    records = log_records(tmp_path / "run")
    (alarm,) = (each for each in records if each["event"] == "alarm" and each["name"] == "diversity")
    assert alarm["images"] == 8 * 6
    ticks = [each for each in records if each["event"] == "tick"]
    assert ticks[-1]["signals"]["collapse/diversity"] < 0.01
    assert "diversity" in ticks[-1]["alarms"]
    assert "COLLAPSE ALARM (diversity" in capfd.readouterr().err
    page = report(tmp_path / "run").read_text()
    assert "the generator collapses" in page
    run(tiny.gan(regularizers=[]), tmp_path / "off", steps=2, log_every_kimg=0.008, no_alarm=True)
    (*_, tick) = (each for each in log_records(tmp_path / "off") if each["event"] == "tick")
    assert "collapse/diversity" not in tick["signals"]


def test_a_healthy_training_raises_none_and_logs_rates_and_memory(tmp_path):
    run(tiny.gan(regularizers=[], generator_optimizer={"lr": 1e-4}), tmp_path / "run", steps=24, log_every_kimg=0.024)
    records = log_records(tmp_path / "run")
    ticks = [each for each in records if each["event"] == "tick"]
    assert len(ticks) == 8
    assert all({"collapse/diversity"} <= each["signals"].keys() for each in ticks)
    assert not [each for each in records if each["event"] == "alarm"]
    assert all(each["signals"]["rate/generator"] == 1e-4 for each in ticks)
    assert all(each["memory_gb"] > 0.05 for each in ticks)

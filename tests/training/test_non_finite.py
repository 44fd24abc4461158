"""Policies for optimizer steps with non-finite gradients: stop after a checkpoint, or retry in float32."""

from __future__ import annotations

import pytest
import torch

from assemblies import GAN
from ganblocks.errors import DivergedError, RunError
from ganblocks.training.step.non_finite import check_policy
from ganblocks.training.trainer import Trainer
from tests import tiny
from tests.training.conftest import (
    STYLEGAN2,
    checkpoint_metadata,
    different_tensors,
    log_records,
    new_trainer,
    real_images,
    run,
)

RETRY = {"precision": "bf16", "non_finite": "retry-in-float32"}


def nan_under_autocast(trainer):
    """Let the outputs of both networks be NaN where mixed precision is on."""
    for network in (trainer.generator.mapping, trainer.discriminator):
        network.register_forward_hook(
            lambda _module, _inputs, output: output * float("nan") if torch.is_autocast_enabled("cpu") else None
        )


def state_after(trainer, steps=4):
    c = torch.zeros(8, trainer.generator.cond_dim)
    for step in range(steps):
        torch.manual_seed(step)
        trainer.train_step(real_images(), c)
    return trainer.gan.state_dict() | {f"average.{k}": v for k, v in trainer.generator_ema.state_dict().items()}


def test_a_retried_step_is_that_of_a_training_in_float32():
    retried, expected = new_trainer(STYLEGAN2, **RETRY), new_trainer(STYLEGAN2, precision="fp32")
    nan_under_autocast(retried)
    state, reference = state_after(retried), state_after(expected)
    assert [name for name in reference if not torch.equal(state[name], reference[name])] == []
    assert retried.losses.read() == expected.losses.read()
    assert retried.non_finite.read() == {}
    phases = {where.partition(":")[0]: times for where, times in retried.non_finite.read_retried().items()}
    assert phases == {"discriminator (discriminator)": 4, "generator (generator)": 4}
    assert retried.non_finite.read_longest() == 0


def test_a_step_that_stays_non_finite_is_skipped():
    trainer = new_trainer(**RETRY)
    trainer.generator.mapping.register_forward_hook(lambda _module, _inputs, output: output * float("nan"))
    trainer.train_step(real_images(), None)
    longest = trainer.non_finite.read_longest()
    skipped, retried = trainer.non_finite.read(), trainer.non_finite.read_retried()
    assert sum(skipped.values()) == sum(retried.values()) == 2  # R1 is of real images
    assert longest == 1


def test_the_log_counts_retried_steps(tmp_path, monkeypatch):
    class Breaking(Trainer):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            nan_under_autocast(self)

    monkeypatch.setattr("ganblocks.training.single_stage.Trainer", Breaking)
    run(tiny.gan(), tmp_path / "run", steps=2, **RETRY)
    records = log_records(tmp_path / "run")
    (tick,) = (record for record in records if record["event"] == "tick")
    assert (tick["skipped_steps"], tick["retried_steps"]) == (0, 4)
    assert {record["outcome"] for record in records if record["event"] == "non-finite"} == {"retried in float32"}


def test_a_training_that_stops_continues_after_the_skipped_step(tmp_path, monkeypatch):
    original = GAN.Spec.build

    def build(spec):
        gan, loss_calls = original(spec), []
        loss = gan.loss.generator

        def generator(*logits):
            loss_calls.append(None)
            return loss(*logits) * (float("nan") if len(loss_calls) == 3 and breaks else 1)

        gan.loss.generator = generator
        return gan

    monkeypatch.setattr(GAN.Spec, "build", build)
    breaks = True
    run(tiny.gan(), tmp_path / "whole", steps=5)
    hint = r"in step 3 \(24 images\).* was skipped\nstopped at .*\n  ganblocks train --resume .*\nOr continue with"
    with pytest.raises(DivergedError, match=hint):
        run(tiny.gan(), tmp_path / "parts", steps=5, non_finite="stop")
    assert checkpoint_metadata(tmp_path / "parts")["step"] == 3
    assert [record["event"] for record in log_records(tmp_path / "parts")][-1] == "diverged"
    breaks = False
    run(None, tmp_path / "parts", steps=5, resume=True, non_finite="stop")
    assert different_tensors(tmp_path / "whole", tmp_path / "parts") == []


@pytest.mark.parametrize(
    ("policy", "precision", "cuda_graphs", "message"),
    [
        ("retry-in-float32", "fp32", False, "is fp32 already; take skip or stop"),
        ("retry-in-float32", "bf16", True, "omit --cuda-graphs"),
        ("stop", "fp16", False, "to find its loss scale; take retry-in-float32, skip or bf16"),
    ],
)
def test_policies_that_make_no_sense_are_refused(policy, precision, cuda_graphs, message):
    with pytest.raises(RunError, match=message):
        check_policy(policy, precision, cuda_graphs=cuda_graphs)
    check_policy("skip", precision, cuda_graphs=cuda_graphs)

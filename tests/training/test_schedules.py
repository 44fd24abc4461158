"""Scheduled options, losses with real logits on both sides, and images of several levels, in the training loop."""

from __future__ import annotations

import pytest
import torch

from assemblies import check, parse
from assemblies.models.gat import architecture as gat
from blocks.loss.relativistic import Relativistic
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.trainer import Trainer
from registry import IncompatibleError
from tests import tiny
from tests.training.conftest import log_records, run

SCHEDULE = {"kind": "linear", "init": 1.0, "final": 0.0, "kimg": 0.048}
RATE = {"kind": "cosine", "init": 1e-3, "final": 1e-4, "kimg": 0.048}
R3GAN = tiny.gan(
    loss="relativistic",
    regularizers=[{"kind": "r1", "gamma": SCHEDULE}, {"kind": "r2", "gamma": SCHEDULE}],
    augment={"kind": "ada", "p": SCHEDULE, "target": None},
    generator_optimizer={"lr": RATE, "betas": [0, {"kind": "step", "values": [0.9, 0.99], "kimg": [0.024]}]},
    ema={"half_life_kimg": SCHEDULE, "ramp_up": None},
)
GAT_ARGS = {
    "input_size": 16,
    "patch_size": 4,
    "in_channels": 1,
    "latent_size": 8,
    "cmap_dim": 8,
    "hidden_size": 16,
    "depth": 4,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "num_classes": 10,
    "qk_norm": True,
}
GAT = {
    "kind": "gan",
    "generator": gat.generator_spec(GAT_ARGS).to_dict(),
    "discriminator": gat.discriminator_spec(GAT_ARGS).to_dict(),
    "loss": "relativistic",
    "regularizers": ["approximate-r1", "approximate-r2"],
    "augment": {"kind": "diffaugment", "color_gate": "all", "color_reference": 1, "color_probability": 0.5},
    "batch_size": 8,
}


def test_scheduled_options_are_logged_and_followed(tmp_path):
    run(R3GAN, tmp_path / "run")
    ticks = [record for record in log_records(tmp_path / "run") if record["event"] == "tick"]
    gammas = [tick["signals"]["schedule/regularizers.0.gamma"] for tick in ticks]
    assert gammas == pytest.approx([2 / 3, 1 / 3, 0])  # at 16, 32 and 48 images
    last = ticks[-1]["signals"]
    assert last["schedule/generator_optimizer.lr"] == pytest.approx(1e-4)
    assert last["schedule/generator_optimizer.betas.1"] == 0.99
    assert last["augment/p"] == pytest.approx(1 / 6)  # of the last step, which began at 40 images
    assert last["schedule/ema.half_life_kimg"] == 0


def test_the_loss_of_the_generator_gets_the_logits_of_the_real_images(monkeypatch):
    trainer = Trainer(parse(R3GAN), DistributedContext("cpu"))
    calls = []

    def generator(self, fake, real=None):
        calls.append((fake.requires_grad, real.requires_grad, fake.shape == real.shape))
        return fake.mean()

    monkeypatch.setattr(Relativistic, "generator", generator)
    trainer.train_step(torch.rand(8, 3, 16, 16) * 2 - 1, None)
    assert calls == [(True, False, True)]


def test_a_generator_of_several_levels_trains(tmp_path):
    """Its discriminator gets all levels of generated images, and real images of one."""
    finished = run(GAT, tmp_path / "run", steps=2)
    assert finished.generator(torch.randn(2, 8), torch.eye(10)[:2]).shape == (2, 1, 16, 16)
    (tick,) = [record for record in log_records(tmp_path / "run") if record["event"] == "tick"]
    assert {"approximate-r1", "approximate-r2"} <= tick["losses"].keys()


def test_a_discriminator_that_takes_another_number_of_levels_is_refused():
    first, *others = GAT["discriminator"]["steps"]
    document = GAT | {"discriminator": GAT["discriminator"] | {"steps": [first | {"num_levels": 3}, *others]}}
    with pytest.raises(IncompatibleError, match="images have 4 levels in training, and the discriminator takes 3"):
        check(parse(document))
    document = GAT | {"discriminator": tiny.DISCRIMINATOR}
    with pytest.raises(IncompatibleError, match="takes 1; begin it with noised-levels"):
        check(parse(document))

"""`--compile`: compiled networks train like eager ones, and change neither checkpoints nor averages."""

from __future__ import annotations

import json

import pytest
import torch
from torch._dynamo.utils import counters

from ganblocks.errors import RunError
from ganblocks.training.checkpoint import checkpoint_tensors
from ganblocks.training.step import compilation
from tests import tiny
from tests.training.conftest import LAZY, STYLEGAN2, checkpoint, different_tensors, new_trainer, real_images, run


@pytest.fixture(autouse=True)
def eager_backend(monkeypatch):
    """Tracing as in use, but no compilation, which takes minutes."""
    monkeypatch.setattr(compilation, "BACKEND", "eager")
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.parametrize("document", [LAZY, STYLEGAN2], ids=["lazy", "stylegan2"])
def test_compiled_networks_train_like_eager_ones(document):
    states = []
    for options in ({}, {"compile": True}):
        trainer = new_trainer(document, **options)
        c = torch.eye(10)[:8] if trainer.generator.cond_dim else None
        images = torch.Generator().manual_seed(1)
        for _ in range(3):
            trainer.train_step(torch.rand(8, 3, 16, 16, generator=images), c)
        states.append({name: value.clone() for name, value in checkpoint_tensors(trainer).items()})
    eager, compiled = states
    assert compiled.keys() == eager.keys()
    for name, value in eager.items():
        torch.testing.assert_close(
            compiled[name], value, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_each_network_is_one_graph_per_phase():
    trainer = new_trainer(LAZY, compile=True)
    for _ in range(3):
        trainer.train_step(real_images(), None)
    # mapping and synthesis with and without gradients, the discriminator for its own step and for the generator's
    assert counters["stats"]["unique_graphs"] == 6
    assert not counters["graph_break"]


def test_penalties_of_second_order_call_the_uncompiled_networks():
    trainer = new_trainer(tiny.gan(regularizers=["bcr", {"kind": "r1", "every": 2}]), compile=True)
    called = {}
    for each in trainer.gan.regularizers:
        each.register_forward_pre_hook(lambda block, args: called.update({block.kind: args[0]}))
    trainer.train_step(real_images(), None)
    assert called == {"bcr": trainer.main_networks, "r1": trainer.networks}


def test_a_compiled_run_is_recorded_and_resumes_bit_for_bit(tmp_path):
    run(LAZY, tmp_path / "whole", steps=4, compile=True)
    run(LAZY, tmp_path / "parts", steps=2, compile=True)
    run(None, tmp_path / "parts", steps=4, resume=True)
    assert json.loads((tmp_path / "parts" / "run.json").read_text())["compile"] is True
    assert different_tensors(tmp_path / "parts", tmp_path / "whole") == []
    assert not any("_orig_mod" in name for name in checkpoint(tmp_path / "whole"))


def test_compilation_is_kept_from_the_start(tmp_path):
    run(LAZY, tmp_path / "run", steps=1)
    with pytest.raises(RunError, match="--compile: the run was started without it; omit --compile to resume it"):
        run(None, tmp_path / "run", steps=2, resume=True, compile=True)


@pytest.mark.slow
def test_inductor_trains_like_eager_networks(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation, "BACKEND", "inductor")
    document = tiny.gan(
        generator=tiny.GENERATOR | {"synthesis": tiny.GENERATOR["synthesis"][:4]},
        discriminator=tiny.DISCRIMINATOR
        | {"steps": [{"kind": "from-rgb", "dim": 8}, {"kind": "residual-conv", "dim": 8}, "linear"]},
        augment=None,  # inductor draws other random numbers
    )
    eager, compiled = (
        run(document, tmp_path / str(compile), steps=3, compile=compile).generator for compile in (False, True)
    )
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, rtol=1e-3, atol=1e-3)

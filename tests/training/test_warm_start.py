"""Initial weights from other runs and from model files."""

from __future__ import annotations

import pytest
import torch

from assemblies import parse, save_model
from assemblies.discriminator import Discriminator
from ganblocks.errors import RunError
from ganblocks.training.warm_start import warm_start
from registry import IncompatibleError
from tests import tiny
from tests.training.conftest import LAZY, checkpoint, different_tensors, new_trainer, run


@pytest.fixture
def model_files(tmp_path):
    """Files of a generator and a discriminator, and the GAN that they are of."""
    torch.manual_seed(1)
    gan = parse(LAZY).build()
    files = [tmp_path / f"{name}.safetensors" for name in ("generator", "discriminator")]
    for file in files:
        save_model(file, getattr(gan, file.stem))
    return *files, gan


@pytest.mark.parametrize("with_discriminator", [True, False])
def test_networks_of_another_run_initialise_a_training(finished, with_discriminator):
    tensors = checkpoint(finished.folder)
    trainer = new_trainer(seed=5)
    warm_start(trainer, generator=finished.folder, discriminator=finished.folder if with_discriminator else None)
    for network in (trainer.generator, trainer.generator_ema):
        assert all(torch.equal(value, tensors[f"average.{name}"]) for name, value in network.state_dict().items())
    discriminator = trainer.discriminator.state_dict()
    same = all(torch.equal(value, tensors[f"gan.discriminator.{name}"]) for name, value in discriminator.items())
    assert same == with_discriminator


def test_model_files_initialise_a_training(model_files):
    *files, gan = model_files
    trainer = new_trainer(seed=5)
    warm_start(trainer, generator=files[0], discriminator=files[1])
    for name in ("generator", "discriminator"):
        state, expected = (getattr(each, name).state_dict() for each in (trainer, gan))
        assert all(torch.equal(state[key], value) for key, value in expected.items())


def test_a_discriminator_grows_at_its_front(tmp_path):
    steps = tiny.DISCRIMINATOR["steps"]
    discriminator = tiny.DISCRIMINATOR | {"steps": [{"kind": "from-rgb", "dim": 12}, *steps[2:]]}
    smaller = parse(discriminator, Discriminator).build(resolution=(8, 8), image_channels=3)
    save_model(tmp_path / "smaller.safetensors", smaller)
    trainer = new_trainer(seed=5)
    before = [
        {name: value.clone() for name, value in step.state_dict().items()} for step in trainer.discriminator.steps
    ]
    warm_start(trainer, discriminator=tmp_path / "smaller.safetensors")
    expected = [*before[:2], *(step.state_dict() for step in smaller.steps[1:])]
    for step, tensors in zip(trainer.discriminator.steps, expected, strict=True):
        assert all(torch.equal(value, tensors[name]) for name, value in step.state_dict().items())


def test_sources_without_the_network_are_refused(tmp_path, model_files):
    generator, discriminator, _ = model_files
    trainer = new_trainer()
    for sources, message in (
        ({"generator": tmp_path / "nowhere"}, "has no generator; give a run folder or a model"),
        ({"discriminator": tmp_path}, "has no checkpoint; give a run folder or a model"),
        ({"generator": discriminator}, "holds a discriminator; give a generator's file or a run folder"),
        ({"discriminator": generator}, "holds a generator; give a discriminator's file or a run folder"),
    ):
        with pytest.raises(RunError, match=message):
            warm_start(trainer, **sources)
    smaller = tiny.DISCRIMINATOR | {"steps": tiny.DISCRIMINATOR["steps"][::5]}
    other = new_trainer(tiny.gan(discriminator=smaller))
    with pytest.raises(IncompatibleError, match=r"--init-discriminator .*\n.* has tensors that this network lacks: "):
        warm_start(other, discriminator=discriminator)


def test_initial_weights_are_those_of_the_start_when_a_run_resumes(tmp_path, model_files):
    generator, discriminator, _ = model_files
    options = {"init_generator": generator, "init_discriminator": discriminator}
    folder = run(LAZY, tmp_path / "run", steps=1, **options).folder
    with pytest.raises(RunError, match=r"--init-generator: the run was started with .*; omit --init-generator"):
        run(None, folder, steps=2, resume=True, init_generator=discriminator)
    run(None, folder, steps=2, resume=True, **options)  # the same may be repeated, and is not loaded again
    run(LAZY, tmp_path / "whole", steps=2, **options)
    assert different_tensors(folder, tmp_path / "whole") == []

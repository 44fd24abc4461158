"""Training on a CUDA device: each precision, exact resume, compilation, and steps that never wait for the device."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from assemblies import GAN, check, read
from ganblocks.data.loader import Sampler, batches
from ganblocks.data.sources import IN_MEMORY, open_data
from ganblocks.randomness import deterministic_algorithms, seed_step
from ganblocks.training.step import graphs
from ganblocks.training.trainer import Trainer
from registry import catalogue
from tests import tiny
from tests.training.conftest import STYLEGAN2, different_tensors, new_trainer, run, write_images

pytestmark = pytest.mark.gpu

MINI = sorted(name for name in catalogue.presets() if name.startswith("mini-"))
BURN_IN = {"kind": "cosine", "init": 0.9, "final": 0.99, "kimg": 0.1}
R3GAN = read("mini-r3gan", GAN).to_dict() | {
    "augment": {"kind": "ada", "target": None, "p": {"kind": "cosine", "init": 0.5, "final": 1.0, "kimg": 0.1}},
    "generator_optimizer": {"lr": 1e-3, "betas": [0.0, BURN_IN], "eps": 1e-4},
    "discriminator_optimizer": {"lr": 1e-3, "betas": [0.0, BURN_IN], "eps": 1e-4},
    "batch_size": 8,
}
GAT = read(Path(__file__).parents[2] / "examples/hybrids/gat-hydra.yaml", GAN).to_dict() | {
    "augment": {"kind": "diffaugment", "color_probability": 0.5},
    "generator_optimizer": {"lr": 5e-4, "betas": [0.0, 0.99], "clip_norm": 1.0, "eps": 1e-4},
    "discriminator_optimizer": {"lr": 5e-4, "betas": [0.0, 0.99], "clip_norm": 1.0, "eps": 1e-4},
    "batch_size": 8,
}
TRAINED = tiny.gan(regularizers=[{"kind": "r1", "every": 2}, {"kind": "path-length", "every": 3}])


def with_lazy_regularizers_at_once(preset):
    """A preset whose lazy regularizers run in every second step, and whose learning rate does not decay."""
    document = read(preset, GAN).to_dict()
    for regularizer in document["regularizers"]:
        regularizer["every"] = min(regularizer["every"], 2)
    for network in ("generator", "discriminator"):
        document[f"{network}_optimizer"]["decay_kimg"] = 0
        if isinstance(document[f"{network}_optimizer"]["lr"], dict):
            document[f"{network}_optimizer"]["lr"] = (
                1e-4  # at 1e-3, rounding to TF32 changes weights by 2e-3 in 12 steps
            )
    return document | {"batch_size": 8}


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def batch_for(trainer: Trainer) -> tuple[torch.Tensor, torch.Tensor | None]:
    channels, height, width = check(trainer.spec)["generator"].image
    real = torch.rand(trainer.batch_size, channels, height, width, device="cuda") * 2 - 1
    classes = trainer.generator.cond_dim
    return real, torch.eye(classes, device="cuda")[: trainer.batch_size] if classes else None


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize("preset", MINI)
def test_presets_train_and_resume_in_each_precision(preset, precision, tmp_path):
    document = with_lazy_regularizers_at_once(preset)
    run(document, tmp_path / "run", steps=2, precision=precision, device="cuda")
    result = run(None, tmp_path / "run", steps=4, device="cuda", resume=True)
    assert len(result.log) == 2
    for record in result.log:
        assert record["losses"].keys() >= {"generator", "discriminator"}
        assert all(math.isfinite(value) for value in record["losses"].values())
    assert all(value.isfinite().all() for value in result.generator.parameters())


@pytest.mark.parametrize("preset", MINI)
def test_a_step_does_not_wait_for_the_device(preset):
    trainer = new_trainer(with_lazy_regularizers_at_once(preset), device="cuda")
    real, c = batch_for(trainer)
    trainer.train_step(real, c)  # libraries wait while they start
    for _ in range(2):
        with waiting_is_an_error():
            trainer.train_step(real, c)
    assert all(math.isfinite(value) for value in trainer.losses.read().values())


def test_the_default_precision_is_tf32():
    assert new_trainer(device="cuda").distributed.precision == "tf32"


@pytest.mark.parametrize("document", [*MINI, "tiny"])
def test_a_deterministic_run_resumes_bit_for_bit(document, tmp_path):
    document = TRAINED if document == "tiny" else with_lazy_regularizers_at_once(document)
    run(document, tmp_path / "whole", steps=4, device="cuda", deterministic=True)
    run(document, tmp_path / "parts", steps=2, device="cuda", deterministic=True)
    run(None, tmp_path / "parts", steps=4, device="cuda", resume=True)
    assert different_tensors(tmp_path / "parts", tmp_path / "whole") == []


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_compiled_networks_train(precision, tmp_path):
    result = run(TRAINED, tmp_path / "run", steps=3, device="cuda", compile=True, precision=precision)
    assert all(math.isfinite(value) for record in result.log for value in record["losses"].values())


def test_a_run_that_began_on_a_gpu_continues_on_a_cpu(tmp_path):
    run(STYLEGAN2, tmp_path / "run", steps=2, device="cuda")
    result = run(None, tmp_path / "run", steps=4, device="cpu", resume=True)
    assert all(math.isfinite(value) for value in result.log[-1]["losses"].values())


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
@pytest.mark.parametrize("preset", MINI)
def test_captured_steps_train_like_others(preset, precision, tmp_path):
    document = with_lazy_regularizers_at_once(preset)
    options = {"steps": 12, "device": "cuda", "precision": precision, "deterministic": True}
    eager = run(document, tmp_path / "eager", **options)
    captured = run(document, tmp_path / "captured", cuda_graphs=True, **options)
    for name, value in eager.generator.state_dict().items():
        torch.testing.assert_close(captured.generator.state_dict()[name], value, rtol=1e-2, atol=1e-3)
    run(document, tmp_path / "parts", cuda_graphs=True, **options | {"steps": 9})
    run(None, tmp_path / "parts", steps=12, device="cuda", resume=True)
    assert different_tensors(tmp_path / "parts", tmp_path / "captured") == []


@pytest.mark.parametrize("document", [R3GAN, GAT], ids=["r3gan", "gat"])
def test_scheduled_values_and_repeated_draws_are_captured(document):
    """Gamma, betas and probability change in each step; the discriminator of GAT draws noise."""
    results = []
    for warm_up in (2, 99):
        with pytest.MonkeyPatch.context() as patch, deterministic_algorithms():
            patch.setattr(graphs, "WARM_UP", warm_up)
            trainer = new_trainer(document, device="cuda", precision="fp32", cuda_graphs=True)
            for step in range(8):
                seed_step(1, step)
                trainer.train_step(*batch_for(trainer))
        assert len(trainer.graphs.graphs) == (warm_up == 2)
        results.append({name: value.clone() for name, value in trainer.gan.state_dict().items()})
    for name, value in results[1].items():
        torch.testing.assert_close(results[0][name], value, rtol=1e-3, atol=1e-4)


def test_compiled_steps_are_captured(tmp_path):
    result = run(TRAINED, tmp_path / "run", steps=14, device="cuda", compile=True, cuda_graphs=True)
    assert all(math.isfinite(value) for record in result.log for value in record["losses"].values())


@pytest.mark.parametrize("in_memory", [True, False], ids=["in-memory", "files"])
def test_batches_on_the_gpu_are_those_on_the_cpu(in_memory, tmp_path):
    data = "digits" if in_memory else write_images(tmp_path / "images", 20)
    limit = IN_MEMORY if in_memory else 0
    images = open_data(data, resolution=(16, 16), image_channels=3, cond_dim=10 if in_memory else 0, in_memory=limit)
    streams = [
        batches(images, Sampler(len(images), 0, flip=True), position=0, batch_size=8, workers=workers, device=device)
        for device, workers in (("cuda", 2), ("cpu", 0))
    ]
    for _ in range(4):
        on_gpu, on_cpu = (next(stream) for stream in streams)
        assert on_gpu.images.is_cuda
        assert torch.equal(on_gpu.images.cpu(), on_cpu.images)
        assert (on_gpu.labels is None) == (on_cpu.labels is None)
        if on_cpu.labels is not None:
            assert torch.equal(on_gpu.labels.cpu(), on_cpu.labels)
    for stream in streams:
        stream.close()

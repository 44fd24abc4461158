"""Pictures on a GPU: CUDA graphs compute what eager calls do, with fresh noise, in every mini preset and batch size."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from assemblies import read, save_model
from assemblies.inference import Captured, computing_in
from blocks.common.noise import noise_mode
from blocks.common.weight_cache import frozen_weights
from ganblocks.sampling.generate import generate
from ganblocks.sampling.load import load_optimized
from ganblocks.sampling.options import SamplingOptions
from ganblocks.sampling.samples import save_samples
from tests.assemblies.test_inference import MINI

pytestmark = pytest.mark.gpu
TOLERANCE = {"fp32": 1e-5, "tf32": 1e-5, "bf16": 2e-2, "fp16": 2e-3}  # relative to the largest value


@pytest.fixture(params=MINI, scope="module")
def generator(request):
    torch.manual_seed(0)
    model = read(request.param).generator.build().eval().to("cuda", memory_format=torch.channels_last)
    with torch.no_grad():
        for value in model.parameters():  # noise has strength 0 at init
            value.add_(torch.randn_like(value) * 0.05)
    return model


def draw(model, batch, seed=1):
    c = torch.eye(model.cond_dim)[torch.arange(batch) % model.cond_dim].cuda() if model.cond_dim else None
    return torch.randn(batch, model.z_dim, generator=torch.Generator().manual_seed(seed)).cuda(), c


def assert_close(actual, expected, tolerance):
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


def eager_images(model, precision, z, c):
    with frozen_weights(), computing_in("fp32", z.device):
        ws = model.mapping(z, c)
    with frozen_weights(), computing_in(precision, z.device):
        return model.synthesis(ws).float()


@torch.no_grad()
@pytest.mark.parametrize("precision", TOLERANCE)
def test_a_graph_computes_what_eager_calls_compute(generator, precision):
    fast = generator.optimize_for_inference(precision=precision)
    with warnings.catch_warnings(action="error"):
        for batch in (1, 3):
            for seed in range(4):  # an eager call, a capture and replays
                z, c = draw(generator, batch, seed)
                assert_close(fast(z, c).float(), eager_images(generator, precision, z, c), TOLERANCE[precision])
    assert len(fast.synthesis.forward.graphs) == 2


@torch.no_grad()
def test_the_batch_size_that_is_named_is_captured_at_once(generator):
    fast = generator.optimize_for_inference(batch_size=2)
    assert len(fast.synthesis.forward.graphs) == len(fast.mapping.forward.graphs) == 1
    z, c = draw(generator, 2)
    assert_close(fast(z, c), eager_images(generator, "fp32", z, c), TOLERANCE["fp32"])
    assert len(fast.synthesis.forward.graphs) == 1


@torch.no_grad()
def test_noise_is_drawn_anew_in_each_replay_and_depends_on_the_seed_alone(generator):
    fast, (z, c) = generator.optimize_for_inference(), draw(generator, 2)
    runs = []
    with noise_mode("random"):
        for _ in range(3):  # an eager call, a capture, a replay
            torch.manual_seed(5)
            runs.append([fast(z, c), fast(z, c)])
    for run in runs[1:]:
        for image, expected in zip(run, runs[0], strict=True):
            assert_close(image, expected, TOLERANCE["fp32"])
    if any(name.endswith("noise.strength") for name, _ in generator.named_parameters()):
        assert not torch.allclose(*runs[-1])


class Synchronising(nn.Module):
    def forward(self, x):
        return x * float(x.sum())


@torch.no_grad()
def test_a_synthesis_that_synchronises_runs_without_a_graph_and_says_why():
    captured = Captured(Synchronising(), "synthesis", "fp32", True)
    x = torch.ones(2, device="cuda")
    captured(x)
    with pytest.warns(UserWarning, match=r"synthesis of \[2\] runs without a CUDA graph: "):
        captured(x)
    torch.testing.assert_close(captured(x), 2 * x)


@pytest.mark.parametrize("noise", ["const", "random"])
def test_commands_make_the_images_of_python(generator, tmp_path, noise):
    save_model(tmp_path / "model.safetensors", generator)
    options = SamplingOptions(noise=noise, batch_size=2)
    fast = load_optimized(tmp_path, options)
    assert next(fast.parameters()).device.type == "cuda"
    with computing_in("fp32", torch.device("cuda")):
        images, expected = (generate(each, range(6), noise=noise, batch_size=2) for each in (fast, generator))
    assert_close(images, expected, TOLERANCE["fp32"])
    assert save_samples(tmp_path, range(6), tmp_path / "grid.png", options=options)["images"] == 6

"""Generators optimised for inference compute what the original does, with weights cast once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from assemblies import parse, read
from assemblies.inference import captured as captured_module
from assemblies.inference.captured import MOST_GRAPHS, Captured
from assemblies.inference.cast import Uses
from blocks.common.noise import noise_mode
from tests import tiny

MINI = ("mini-stylegan-t", "mini-stylenat", "mini-styleformer", "mini-vitgan")


@pytest.fixture(params=MINI, scope="module")
def generator(request):
    torch.manual_seed(0)
    model = read(request.param).generator.build().eval()
    with torch.no_grad():
        for value in model.parameters():  # some weights are zero at init
            value.add_(torch.randn_like(value) * 0.05)
    return model


def draw(model, batch):
    c = torch.eye(model.cond_dim)[torch.arange(batch) % model.cond_dim] if model.cond_dim else None
    return torch.randn(batch, model.z_dim, generator=torch.Generator().manual_seed(1)), c


def autocast_images(model, z, c):
    ws = model.mapping(z, c)
    with torch.autocast("cpu", torch.bfloat16):
        return model.synthesis(ws)


@torch.no_grad()
def test_images_are_those_of_the_original(generator):
    z, c = draw(generator, 3)
    fast = generator.optimize_for_inference(batch_size=3)
    torch.testing.assert_close(fast(z, c, truncation_psi=0.7), generator(z, c, truncation_psi=0.7))
    torch.testing.assert_close(fast.synthesis(fast.mapping(z, c)), generator(z, c))
    assert fast.inference == ("fp32", (), False)
    assert fast.state_dict().keys() == generator.state_dict().keys()


@torch.no_grad()
def test_in_16_bits_images_are_those_of_autocast_and_weights_are_stored_in_16_bits(generator):
    z, c = draw(generator, 2)
    fast = generator.optimize_for_inference(precision="bf16")
    torch.testing.assert_close(fast(z, c), autocast_images(generator, z, c))
    assert fast.inference.cast
    for name, value in fast.state_dict().items():
        assert (value.dtype == torch.bfloat16) == (name in fast.inference.cast)
    assert {value.dtype for value in generator.state_dict().values()} == {torch.float32}


@torch.no_grad()
def test_images_in_bfloat16_differ_by_less_than_one_grey_level_in_the_mean(generator):
    z, c = draw(generator, 4)
    exact, rounded = (
        model(z, c).float().clamp(-1, 1) for model in (generator, generator.optimize_for_inference(precision="bf16"))
    )
    assert exact.std() > 0.05
    assert 127.5 * (exact - rounded).abs().mean() < 1


def test_norms_styles_and_colours_stay_in_float32():
    model = read("mini-stylenat").generator.build()
    cast = model.optimize_for_inference(precision="bf16").inference.cast
    assert "synthesis.1.attn.qkv.weight" in cast
    kept = set(model.state_dict()) - set(cast)
    assert {"mapping.layers.0.weight", "synthesis.4.weight", "synthesis.3.norm.weight"} <= kept


def test_a_weight_that_is_also_used_in_float32_is_not_cast():
    weight, other = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    uses = Uses([weight, other], torch.bfloat16)
    with uses, torch.no_grad():
        for each in (weight, other):
            each.to(torch.bfloat16)
        weight.square()
    assert uses.cast - uses.others == {id(other)}


def test_the_result_can_be_differentiated_by_latents():
    model = parse(tiny.GENERATOR).build().eval()
    z = torch.randn(1, model.z_dim, requires_grad=True)
    gradients = [torch.autograd.grad(each(z).square().sum(), z)[0] for each in (model, model.optimize_for_inference())]
    torch.testing.assert_close(*gradients)


def test_precisions_that_do_not_exist_are_refused():
    model = parse(tiny.GENERATOR).build()
    with pytest.raises(ValueError, match="unknown precision 'half'; valid: fp32, tf32, bf16, fp16"):
        model.optimize_for_inference(precision="half")
    with pytest.raises(ValueError, match="fp16 needs a GPU; choose precision bf16 or fp32 on a CPU"):
        model.optimize_for_inference(precision="fp16")


class Recorded:
    """Stands in for a CUDA graph."""

    def __init__(self, run, args, kwargs):
        self.run = run
        self.calls = 0

    def replay(self, args, kwargs):
        self.calls += 1
        return self.run(*args, **kwargs)


def test_the_second_call_of_a_kind_is_captured(monkeypatch):
    monkeypatch.setattr(captured_module, "Graph", Recorded)
    captured = Captured(lambda x, psi=1.0: x * psi, "synthesis", "fp32", True)
    x = torch.ones(2)
    for _ in range(3):
        torch.testing.assert_close(captured(x, psi=2.0), 2 * x)
    captured(x, psi=3.0)
    with noise_mode("random"):
        captured(x, psi=2.0)
    captured(torch.ones(3), psi=2.0)
    assert [graph.calls for graph in captured.graphs.values()] == [2]
    for size in range(1, 20):
        captured(torch.ones(size))
        captured(torch.ones(size))
    assert len(captured.graphs) == MOST_GRAPHS


def test_a_call_that_cannot_be_captured_runs_without_a_graph_and_warns_once(monkeypatch, recwarn):
    def fail(*_):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(captured_module, "Graph", fail)
    captured = Captured(lambda x: x + 1, "synthesis", "fp32", True)
    for _ in range(4):
        torch.testing.assert_close(captured(torch.zeros(2, 3)), torch.ones(2, 3))
    (warning,) = recwarn
    reason = "RuntimeError: operation not permitted when stream is capturing"
    assert str(warning.message) == f"synthesis of [2, 3] runs without a CUDA graph: {reason}"

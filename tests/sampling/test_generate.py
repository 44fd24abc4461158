"""One image per seed, whatever other seeds are generated with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from assemblies import CheckpointError, parse, read, save_model
from ganblocks.errors import DataError, RunError, UsageError
from ganblocks.randomness import latents
from ganblocks.sampling.conditions import one_hot, resolve_conditions
from ganblocks.sampling.generate import batch_size_of, generate, synthesize
from ganblocks.sampling.load import load
from tests import tiny
from tests.sampling.conftest import randomise


def test_bfloat16_changes_an_image_by_less_than_a_grey_level():
    torch.manual_seed(0)
    model = read("mini-stylegan-t").generator.build().eval()
    c = one_hot([3], model.cond_dim)[0]
    exact = generate(model, range(8), c=c)
    rounded = generate(model, range(8), c=c, precision="bf16")
    contrast = 0.5 * 127.5 / exact.std()  # grey levels of an image that is as lively as trained ones
    assert 0 < (rounded - exact).abs().mean() * contrast < 1


def test_float16_is_refused_on_a_cpu(generator):
    with pytest.raises(RunError, match="fp16 needs a GPU; choose precision bf16 or fp32 on a CPU"):
        generate(generator, [0], precision="fp16")


def test_seeds_may_be_an_array_or_a_tensor(generator):
    expected = generate(generator, [3, 4], noise="random")
    for seeds in (np.array([3, 4]), torch.tensor([3, 4])):
        assert torch.equal(generate(generator, seeds, noise="random"), expected)
    with pytest.raises(UsageError, match="precision 'int8': unknown; valid: fp32, tf32, bf16, fp16"):
        generate(generator, [0], precision="int8")


def test_seeds_that_torch_cannot_take_are_refused(generator):
    for seeds in ([], [-1], [2**64]):
        with pytest.raises(UsageError, match=r"should be one or more integers from 0 to 2\^64 - 1"):
            generate(generator, seeds)


def test_the_image_of_a_seed_does_not_depend_on_other_seeds(generator, conditional):
    for model in (generator, conditional):
        together = generate(model, [5, 6, 7, 8, 9], batch_size=2)
        assert together.shape == (5, 3, 16, 16)
        torch.testing.assert_close(generate(model, [8])[0], together[3])
        assert not torch.allclose(together[0], together[1])


def test_latents_depend_on_their_own_seed():
    z = latents(range(2000), 4)
    assert torch.equal(latents([1234], 4)[0], z[1234])
    assert z.mean().abs() < 0.05
    assert abs(z.std().item() - 1) < 0.05


def test_truncation_moves_images_towards_the_mean(generator):
    full, half, none = (generate(generator, range(4), truncation_psi=psi) for psi in (1.0, 0.5, 0.0))
    assert none.std(dim=0).max() < 1e-5
    assert half.std(dim=0).mean() < full.std(dim=0).mean()
    first = generate(generator, range(4), truncation_psi=0.0, truncation_cutoff=1)
    assert 1e-4 < first.std(dim=0).mean()
    assert not torch.allclose(first, full)


def test_without_a_condition_the_class_depends_on_the_seed(conditional):
    by_seed = generate(conditional, [0, 1, 2, 3])
    torch.testing.assert_close(by_seed[1], generate(conditional, [1], c=one_hot([1], 3))[0])
    torch.testing.assert_close(by_seed[3], generate(conditional, [3], c=one_hot([0], 3)[0])[0])
    assert not torch.allclose(by_seed[1], generate(conditional, [1], c=one_hot([2], 3))[0])
    with pytest.raises(ValueError, match=r"shape \(2,\); it should be \(4, 3\) or \(3,\)"):
        generate(conditional, range(4), c=torch.zeros(2))


def test_an_unconditional_generator_takes_no_class(generator):
    with pytest.raises(ValueError, match="takes no condition"):
        generate(generator, [0], c=torch.zeros(3))


def test_images_come_from_a_generator_a_model_file_or_a_run_folder(tmp_path, generator):
    save_model(tmp_path / "model.safetensors", generator)
    for source in (tmp_path, tmp_path / "model.safetensors"):
        torch.testing.assert_close(generate(load(source), [1]), generate(generator, [1]))
        assert torch.equal(generate(source, [1]), generate(load(source), [1]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        load(tmp_path / "empty")


def test_sampling_changes_no_state(generator):
    before = {name: value.clone() for name, value in nn.Module.state_dict(generator).items()}
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    generate(generator, range(3))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())


def test_the_default_batch_size_falls_with_the_resolution():
    sizes = {}
    for side in (16, 64, 256, 1024):
        generator = parse(tiny.GENERATOR).build()
        generator.resolution = (side, side)
        sizes[side] = batch_size_of(generator)
    assert sizes == {16: 32, 64: 32, 256: 2, 1024: 1}


def test_random_noise_depends_on_the_seed():
    torch.manual_seed(0)
    steps = [{"kind": "constant", "dim": 8}, {"kind": "styled-attention", "num_heads": 2}, {"kind": "to-rgb"}]
    generator = randomise(parse({"kind": "layered", "z_dim": 4, "synthesis": steps}).build())
    fixed, random = generate(generator, [3, 4]), generate(generator, [3, 4], noise="random")
    assert not torch.allclose(fixed, random)
    torch.testing.assert_close(generate(generator, [4], noise="random")[0], random[1])
    torch.testing.assert_close(generate(generator, [3, 4], noise="const"), fixed)


def test_random_noise_is_independent_of_the_latent():
    seen = []

    class Spy(nn.Module):
        resolution = (4, 4)

        def synthesis(self, ws):
            seen.append(torch.randn(64))
            return torch.zeros(1, 1, 4, 4)

        def decode(self, image):
            return image

    spy = Spy()
    spy.weight = nn.Parameter(torch.zeros(1))
    list(synthesize(spy, torch.zeros(1, 1, 1), noise="random", noise_seeds=[7]))
    assert not torch.isclose(seen[0], latents([7], 64)[0]).any()


def test_captions_are_refused_by_class_conditional_models(conditional):
    with pytest.raises(
        DataError, match="--prompt 'a bird': this is not a text-conditional model; it takes classes 0 to 2"
    ):
        resolve_conditions(conditional, captions=["a bird"])
    with pytest.raises(DataError, match="exclude each other"):
        resolve_conditions(conditional, [1], ["a bird"])

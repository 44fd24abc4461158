"""A seed is an image, whatever it is drawn with; between seeds, and beside the nearest training image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from assemblies import CheckpointError, parse, read, save_model
from ganblocks.errors import DataError, RunError
from ganblocks.randomness import latents
from ganblocks.sampling.generate import (
    beside_nearest,
    generate,
    load_generator,
    nearest,
    one_hot,
    sample_files,
)
from ganblocks.sampling.grids import make_grid, save_grid
from ganblocks.sampling.interpolation import interpolate, slerp
from tests import tiny


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    made = parse(tiny.GENERATOR).build()
    return randomised(made)


@pytest.fixture(scope="module")
def conditional():
    torch.manual_seed(0)
    return randomised(parse(tiny.GENERATOR | {"cond_dim": 3, "value_range": "unit"}).build())


def randomised(generator):
    """Weights and a mean style that are not those of the start, some of which are zero."""
    with torch.no_grad():
        for value in generator.parameters():
            value.add_(torch.randn_like(value) * 0.3)
        for name, value in generator.named_buffers():
            if name.endswith("w_avg"):
                value.normal_()
    return generator.eval()


def test_in_half_the_bits_an_image_moves_by_less_than_a_grey_level():
    torch.manual_seed(0)
    model = read("mini-stylegan-t").generator.build().eval()
    c = one_hot([3], model.cond_dim)[0]
    exact = generate(model, range(8), c=c)
    rounded = generate(model, range(8), c=c, precision="bf16")
    contrast = 0.5 * 127.5 / exact.std()  # grey levels of an image that is as lively as trained ones
    assert 0 < (rounded - exact).abs().mean() * contrast < 1


def test_float16_is_refused_on_a_processor(generator):
    with pytest.raises(RunError, match="fp16 needs a GPU; take precision bf16 or no on the CPU"):
        generate(generator, [0], precision="fp16")


def test_a_seed_is_an_image_whatever_it_is_drawn_with(generator, conditional):
    for model in (generator, conditional):
        together = generate(model, [5, 6, 7, 8, 9], batch_size=2)
        assert together.shape == (5, 3, 16, 16)
        torch.testing.assert_close(generate(model, [8])[0], together[3])
        assert not torch.allclose(together[0], together[1])


def test_latents_are_drawn_seed_by_seed():
    z = latents(range(2000), 4)
    assert torch.equal(latents([1234], 4)[0], z[1234])
    assert z.mean().abs() < 0.05
    assert abs(z.std().item() - 1) < 0.05


def test_truncation_draws_towards_the_mean(generator):
    full, half, none = (generate(generator, range(4), truncation_psi=psi) for psi in (1.0, 0.5, 0.0))
    assert none.std(dim=0).max() < 1e-5
    assert half.std(dim=0).mean() < full.std(dim=0).mean()
    first = generate(generator, range(4), truncation_psi=0.0, truncation_cutoff=1)
    assert 1e-4 < first.std(dim=0).mean()
    assert not torch.allclose(first, full)


def test_classes_go_by_the_seed_unless_one_is_chosen(conditional):
    by_seed = generate(conditional, [0, 1, 2, 3])
    torch.testing.assert_close(by_seed[1], generate(conditional, [1], c=one_hot([1], 3))[0])
    torch.testing.assert_close(by_seed[3], generate(conditional, [3], c=one_hot([0], 3)[0])[0])
    assert not torch.allclose(by_seed[1], generate(conditional, [1], c=one_hot([2], 3))[0])
    with pytest.raises(ValueError, match=r"shape \(2,\), not \(4, 3\) or \(3,\)"):
        generate(conditional, range(4), c=torch.zeros(2))


def test_an_unconditional_generator_takes_no_class(generator):
    with pytest.raises(ValueError, match="takes no condition"):
        generate(generator, [0], c=torch.zeros(3))


@pytest.mark.parametrize("space", ["w", "z"])
def test_interpolation_passes_through_its_stations(generator, conditional, space):
    for model in (generator, conditional):
        c = None if not model.cond_dim else one_hot([2], 3)[0]
        images = interpolate(model, [3, 4, 5], 4, space=space, c=c)
        assert len(images) == 9
        torch.testing.assert_close(images[[0, 4, 8]], generate(model, [3, 4, 5], c=c))
        steps = (images[1:] - images[:-1]).flatten(1).norm(dim=1)
        assert steps.min() > 0
    with pytest.raises(ValueError, match="between two seeds or more"):
        interpolate(generator, [3])


def test_slerp_stays_on_the_sphere():
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    torch.testing.assert_close(slerp(a, b, 0.5), torch.full((2,), math.sqrt(2)))
    torch.testing.assert_close(slerp(a, b, 1 / 3), torch.tensor([math.sqrt(3), 1.0]))
    torch.testing.assert_close(slerp(a, a, 0.3), a)
    assert slerp(a, -a, 0.3).isfinite().all()


def test_the_nearest_image_is_found():
    references = torch.rand(300, 3, 4, 4)
    images = references[[7, 250, 3]] + 0.01
    indices, distances = nearest(images, references, chunk=2)
    assert indices.tolist() == [7, 250, 3]
    torch.testing.assert_close(distances, torch.full((3,), 0.01), rtol=1e-2, atol=1e-4)
    strip = beside_nearest(images, references)
    assert torch.equal(strip, torch.cat([images, references[[7, 250, 3]]]))


def test_a_grid_shows_each_image_at_its_place(tmp_path):
    shades = torch.arange(6, dtype=torch.uint8).mul(40).reshape(6, 1, 1, 1).expand(6, 3, 8, 10)
    save_grid(shades, tmp_path / "grid.png", columns=3, gap=2)
    pixels = np.asarray(Image.open(tmp_path / "grid.png"))
    assert pixels.shape == (2 * 8 + 2, 3 * 10 + 2 * 2, 3)
    for index in range(6):
        y, x = index // 3 * 10, index % 3 * 12
        assert (pixels[y : y + 8, x : x + 10] == index * 40).all()
    assert (pixels[8:10] == 255).all()
    assert list(tmp_path.iterdir()) == [tmp_path / "grid.png"]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grids_know_the_value_range(tmp_path, channels):
    images = torch.full((1, channels, 4, 4), 0.5)
    for value_range, shade in (("symmetric", 191), ("unit", 128)):
        picture = make_grid(images, value_range=value_range, scale=2)
        assert picture.size == (8, 8)
        assert abs(picture.getpixel((3, 3))[0] - shade) <= 1


def test_labels_take_room_but_no_images(tmp_path):
    images = torch.zeros(4, 1, 20, 20)
    plain, labelled = make_grid(images), make_grid(images, labels=["one", "two"], row_labels=["first", "second"])
    assert labelled.height > plain.height
    assert labelled.width > plain.width
    with pytest.raises(ValueError, match="at least one image"):
        make_grid(images[:0])


def test_a_model_file_or_a_run_folder_can_be_sampled(tmp_path, generator):
    save_model(tmp_path / "model.safetensors", generator)
    for source in (tmp_path, tmp_path / "model.safetensors"):
        torch.testing.assert_close(generate(load_generator(source), [1]), generate(generator, [1]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        load_generator(tmp_path / "empty")


def test_samples_go_into_a_picture_or_a_folder(tmp_path, conditional):
    save_model(tmp_path / "model.safetensors", conditional)
    sample_files(tmp_path, [3, 10], tmp_path / "new" / "grid.png")
    assert Image.open(tmp_path / "new" / "grid.png").size == (34, 16)
    sample_files(tmp_path, [3, 10], tmp_path / "each", classes=[1])
    assert sorted(path.name for path in (tmp_path / "each").iterdir()) == ["seed0003.png", "seed0010.png"]
    expected = generate(conditional, [10], c=one_hot([1], 3)).mul(255).round().clamp(0, 255)[0].permute(1, 2, 0)
    np.testing.assert_allclose(np.asarray(Image.open(tmp_path / "each" / "seed0010.png")), expected.numpy(), atol=1)
    with pytest.raises(DataError, match="knows classes 0 to 2; class 3"):
        sample_files(tmp_path, [0], tmp_path / "grid.png", classes=[3])


def test_sampling_changes_no_state(generator):
    before = {name: value.clone() for name, value in nn.Module.state_dict(generator).items()}
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    generate(generator, range(3))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())

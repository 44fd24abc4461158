"""ADA: each transform against its formula, the filters, and derivatives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from blocks.augment.ada import ADA, warp
from blocks.augment.ada.symlets import SYM2, SYM6, filter_bank
from blocks.augment.ada.transforms import GROUPS
from registry import recording, second_order

ALL = tuple(GROUPS)


def images(num: int = 2, height: int = 20, width: int = 28, channels: int = 3) -> Tensor:
    shape = (num, channels, height, width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


def only(transform: str, **options: object) -> ADA:
    """An augmentation with a single transform, always applied."""
    group = next(group for group, transforms in GROUPS.items() if transform in transforms)
    factors = {each: float(each == transform) for each in GROUPS[group]}
    return ADA(policy=(group,), probability=factors, p=1.0, target=None, **options)


def applied(transform: str, q: float, image: Tensor, **options: object) -> Tensor:
    augment = only(transform, **options)
    return augment(image, augment.quantile(image, q))


def erfinv(q: float) -> float:
    return torch.erfinv(torch.tensor(2 * q - 1, dtype=torch.float64)).item()


def smooth(x: Tensor, y: Tensor) -> Tensor:
    """A smooth function of the position; x and y in pixels from the centre."""
    return torch.sin(0.11 * x + 0.07 * y + 0.4) + torch.cos(0.06 * x - 0.12 * y)


def coordinates(height: int, width: int) -> tuple[Tensor, Tensor]:
    y, x = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2 for size in (height, width))
    return x.expand(height, -1), y[:, None].expand(-1, width)


def test_flips_and_half_turns_mirror_a_smooth_image() -> None:
    """Noise would not be mirrored exactly: the wavelet filter of the warp is only nearly symmetric."""
    image = smooth(*coordinates(20, 28)).expand(1, 3, -1, -1)
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    assert torch.equal(applied("xflip", 0.3, image), image)
    assert (applied("xflip", 0.7, image) - image.flip(3))[inner].abs().max() < 0.03
    assert (applied("rotate90", 0.6, image) - image.flip(2, 3))[inner].abs().max() < 0.03
    assert (image - image.flip(3)).abs().max() > 1


def test_quarter_turns_rotate_a_square() -> None:
    image = smooth(*coordinates(16, 16)).expand(1, 3, -1, -1)
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    for q, turns in ((0.3, 1), (0.6, 2), (0.8, 3)):
        assert (applied("rotate90", q, image) - image.rot90(turns, (2, 3)))[inner].abs().max() < 0.03


@pytest.mark.parametrize("q", [0.1, 0.85])
def test_integer_shifts_use_reflection_padding(q: float) -> None:
    image = images()
    actual = applied("xint", q, image)
    dy, dx = (round((2 * q - 1) * 0.125 * size) for size in image.shape[2:])
    assert 0 not in (dy, dx)
    padded = torch.nn.functional.pad(image, (9, 9, 9, 9), mode="reflect")
    expected = padded[:, :, 9 - dy : 29 - dy, 9 - dx : 37 - dx]
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("q", [0.25, 0.7])
@pytest.mark.parametrize("transform", ["scale", "rotate", "aniso", "xfrac"])
def test_geometric_transforms_warp_a_smooth_image(transform: str, q: float) -> None:
    height, width = 48, 64
    x, y = coordinates(height, width)
    e, angle = erfinv(q), (2 * q - 1) * math.pi
    sources = {
        "scale": (x / 2 ** (0.2 * e), y / 2 ** (0.2 * e)),
        "rotate": (math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y),
        "aniso": (x / 2 ** (0.2 * e), y * 2 ** (0.2 * e)),
        "xfrac": (x - 0.125 * e * width, y - 0.125 * e * height),
    }
    actual = applied(transform, q, smooth(x, y).expand(1, 3, -1, -1))
    expected = smooth(*sources[transform])
    inside = (sources[transform][0].abs() < width / 2 - 5) & (sources[transform][1].abs() < height / 2 - 5)
    assert inside.double().mean() > 0.3
    assert (actual - expected)[0, :, inside].abs().max() < 0.02


def test_geometric_transforms_are_applied_in_the_papers_order() -> None:
    """Mirrored first, shifted last: the shift has the same direction in mirrored images and others."""
    image = smooth(*coordinates(20, 28)).expand(1, 3, -1, -1)
    augment = ADA(policy=("blit",), probability={"rotate90": 0}, p=1.0)
    both = augment(image, augment.quantile(image, 0.9))
    assert (both - applied("xint", 0.9, image.flip(3)))[:, :, 5:-5, 5:-5].abs().max() < 0.03


@pytest.mark.parametrize("q", [0.2, 0.9])
def test_color_transforms_follow_their_formulas(q: float) -> None:
    image, e = images(), erfinv(q)
    luma = image.mean(dim=1, keepdim=True)
    formulas = {
        "brightness": image + 0.2 * e,
        "contrast": image * 2 ** (0.5 * e),
        "lumaflip": image - 2 * luma if q > 0.5 else image,
        "saturation": luma + (image - luma) * 2**e,
    }
    for transform, expected in formulas.items():
        torch.testing.assert_close(applied(transform, q, image), expected)


def test_a_hue_rotation_by_a_third_permutes_the_channels() -> None:
    image = images()
    torch.testing.assert_close(applied("hue", 5 / 6, image), image.roll(1, dims=1))
    torch.testing.assert_close(applied("hue", 1 / 6, image), image.roll(-1, dims=1))


def test_grey_images_change_as_equal_channels_of_colour_images_do() -> None:
    grey = images(channels=1)
    augment = ADA(policy=ALL, probability={"noise": 0}, p=1.0)
    for q in (0.2, 0.8):
        draws = augment.quantile(grey, q)
        color = augment(grey.expand(-1, 3, -1, -1), augment.quantile(grey.expand(-1, 3, -1, -1), q))
        torch.testing.assert_close(augment(grey, draws), color[:, :1])


def test_band_filters_sum_to_the_identity_and_split_the_frequencies() -> None:
    bank = filter_bank().double()
    identity = torch.zeros(bank.shape[1], dtype=torch.float64)
    identity[len(identity) // 2] = 1
    torch.testing.assert_close(bank.sum(dim=0), identity, rtol=0, atol=1e-7)
    response = torch.fft.rfft(bank, n=1024).abs()
    for band, (low, high) in enumerate([(0, 1 / 8), (1 / 8, 1 / 4), (1 / 4, 1 / 2), (1 / 2, 1)]):
        middle = int(512 * (low + high) / 2) if band else 0
        assert response[:, middle].argmax() == band


@pytest.mark.parametrize("taps", [SYM2, SYM6], ids=["sym2", "sym6"])
def test_symlets_are_orthogonal_to_their_shifts_and_have_vanishing_moments(taps: tuple[float, ...]) -> None:
    filter = torch.tensor(taps, dtype=torch.float64)
    for shift in range(0, len(taps), 2):
        assert float(filter[shift:] @ filter[: len(taps) - shift]) == pytest.approx(float(shift == 0), abs=1e-11)
    position = torch.arange(len(taps), dtype=torch.float64)
    for degree in range(len(taps) // 2):
        assert float(((-1.0) ** position * filter * position**degree).sum()) == pytest.approx(0, abs=1e-5)


def test_amplifying_a_band_preserves_the_expected_power() -> None:
    flat = torch.ones(1, 3, 12, 50, dtype=torch.float64)
    for bands, share in (((1, 0, 0, 0), 10 / 13), ((0, 0, 0, 1), 1 / 13)):
        gain = 2 ** erfinv(0.9)
        scale = 1 / math.sqrt(1 + share * (gain**2 - 1))
        expected = flat * (scale * gain if bands[0] else scale) ** 2  # along both axes; a flat image has only band 0
        torch.testing.assert_close(applied("filter", 0.9, flat, bands=bands), expected, rtol=1e-6, atol=0)


def test_filters_use_reflection_padding_on_images_smaller_than_themselves() -> None:
    small = images(height=6, width=9)
    period = torch.cat([small, small.flip(2)[:, :, 1:-1]], dim=2).repeat(1, 1, 9, 1)  # 90 rows, 10 a period
    expected = applied("filter", 0.8, small)
    ratio = applied("filter", 0.8, period)[:, :, 40:46] / expected
    torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=1e-6, atol=1e-6)


def test_noise_has_the_drawn_deviation() -> None:
    image = images(height=64, width=64)
    noise = applied("noise", 0.7, image) - image
    assert float(noise.std()) == pytest.approx(0.1 * torch.erfinv(torch.tensor(0.7)).item(), rel=0.03)


@pytest.mark.parametrize("q", [0.05, 0.5, 0.8])
def test_cutout_sets_a_box_of_half_the_sides_to_0(q: float) -> None:
    image = images()
    actual, expected = applied("cutout", q, image), image.clone()
    for i in range(20):
        for j in range(28):
            if abs((i + 0.5) / 20 - q) < 0.25 and abs((j + 0.5) / 28 - q) < 0.25:
                expected[:, :, i, j] = 0
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    assert (actual == 0).any()


def test_the_pipeline_is_twice_differentiable() -> None:
    """It is affine in the image; R1 needs the derivative of its gradient."""
    torch.manual_seed(0)
    image = images(num=2, height=5, width=7).requires_grad_()
    augment = ADA(policy=ALL, p=1.0)
    draws = augment.draw(image)
    with second_order():
        assert torch.autograd.gradcheck(lambda image: augment(image, draws), image, fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda image: augment(image, draws), image, fast_mode=True)
        slope = torch.autograd.grad(augment(image, draws).pow(3).sum(), image, create_graph=True)[0]
        assert torch.autograd.grad(slope.square().sum(), image)[0].abs().max() > 0


@pytest.mark.parametrize("size", [(16, 16), (9, 14), (1, 5)])
def test_full_padding_where_values_are_unknown_gives_the_same_images(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    image = images(num=3, height=size[0], width=size[1])
    augment = ADA(policy=ALL, p=0.7, magnitude={"xfrac": 0.5})
    draws = augment.draw(image)
    expected = augment(image, draws)
    monkeypatch.setattr(warp, "has_known_values", lambda image: False)
    torch.testing.assert_close(augment(image, draws), expected, rtol=0, atol=1e-9)


def test_geometric_transforms_use_the_ops() -> None:
    image = images()
    with recording() as ran:
        applied("scale", 0.7, image)
    assert [op for op, _ in ran] == ["upfirdn2d", "grid_sample", "upfirdn2d"]
    with recording() as ran:
        ADA()(image)
    assert ran == []  # nothing is warped at p 0, so nothing is resampled


def test_reflection_by_index_is_reflection_padding() -> None:
    image = torch.randn(2, 3, 5, 7)
    rows, columns = warp.reflected(5, 4, 3, image.device), warp.reflected(7, 6, 2, image.device)
    padded = torch.nn.functional.pad(image, (6, 2, 4, 3), mode="reflect")
    assert torch.equal(image[:, :, rows][:, :, :, columns], padded)

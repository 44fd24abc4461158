"""Adaptive augmentation: each transform against what it says, its chances, its derivatives, and how p is steered."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from blocks.augment.ada import ADA, warp
from blocks.augment.ada.symlets import SYM2, SYM6, filter_bank
from blocks.augment.ada.transforms import GROUPS
from registry import IncompatibleError, SpecValidationError, recording, second_order

ALL = tuple(GROUPS)


def images(num: int = 2, height: int = 20, width: int = 28, channels: int = 3) -> Tensor:
    shape = (num, channels, height, width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


def only(transform: str, **options: object) -> ADA:
    """An augmentation of a single transform, always applied."""
    group = next(group for group, transforms in GROUPS.items() if transform in transforms)
    factors = {each: float(each == transform) for each in GROUPS[group]}
    return ADA(policy=(group,), probability=factors, p=1.0, target=None, **options)


def applied(transform: str, q: float, image: Tensor, **options: object) -> Tensor:
    augment = only(transform, **options)
    return augment(image, augment.quantile(image, q))


def erfinv(q: float) -> float:
    return torch.erfinv(torch.tensor(2 * q - 1, dtype=torch.float64)).item()


def smooth(x: Tensor, y: Tensor) -> Tensor:
    """A picture known between its pixels too; x and y in pixels from the centre."""
    return torch.sin(0.11 * x + 0.07 * y + 0.4) + torch.cos(0.06 * x - 0.12 * y)


def coordinates(height: int, width: int) -> tuple[Tensor, Tensor]:
    y, x = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2 for size in (height, width))
    return x.expand(height, -1), y[:, None].expand(-1, width)


def test_flips_and_half_turns_mirror_what_is_smooth() -> None:
    """White noise would not be mirrored quite: the wavelet that all moves go through is nearly symmetric only."""
    image = smooth(*coordinates(20, 28)).expand(1, 3, -1, -1)
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    assert torch.equal(applied("xflip", 0.3, image), image)
    assert (applied("xflip", 0.7, image) - image.flip(3))[inner].abs().max() < 0.03
    assert (applied("rotate90", 0.6, image) - image.flip(2, 3))[inner].abs().max() < 0.03
    assert (image - image.flip(3)).abs().max() > 1


def test_quarter_turns_turn_a_square() -> None:
    image = smooth(*coordinates(16, 16)).expand(1, 3, -1, -1)
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    for q, turns in ((0.3, 1), (0.6, 2), (0.8, 3)):
        assert (applied("rotate90", q, image) - image.rot90(turns, (2, 3)))[inner].abs().max() < 0.03


@pytest.mark.parametrize("q", [0.1, 0.85])
def test_shifts_by_whole_pixels_bring_in_the_reflection(q: float) -> None:
    image = images()
    found = applied("xint", q, image)
    dy, dx = (round((2 * q - 1) * 0.125 * size) for size in image.shape[2:])
    assert 0 not in (dy, dx)
    around = torch.nn.functional.pad(image, (9, 9, 9, 9), mode="reflect")
    expected = around[:, :, 9 - dy : 29 - dy, 9 - dx : 37 - dx]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("q", [0.25, 0.7])
@pytest.mark.parametrize("transform", ["scale", "rotate", "aniso", "xfrac"])
def test_geometry_shows_a_smooth_picture_from_elsewhere(transform: str, q: float) -> None:
    height, width = 48, 64
    x, y = coordinates(height, width)
    e, angle = erfinv(q), (2 * q - 1) * math.pi
    by = {
        "scale": (x / 2 ** (0.2 * e), y / 2 ** (0.2 * e)),
        "rotate": (math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y),
        "aniso": (x / 2 ** (0.2 * e), y * 2 ** (0.2 * e)),
        "xfrac": (x - 0.125 * e * width, y - 0.125 * e * height),
    }
    found = applied(transform, q, smooth(x, y).expand(1, 3, -1, -1))
    expected = smooth(*by[transform])
    seen = (by[transform][0].abs() < width / 2 - 5) & (by[transform][1].abs() < height / 2 - 5)
    assert seen.double().mean() > 0.3
    assert (found - expected)[0, :, seen].abs().max() < 0.02


def test_moves_are_applied_in_the_papers_order() -> None:
    """Mirrored first, shifted last: a shift goes the same way in mirrored images and in others."""
    image = smooth(*coordinates(20, 28)).expand(1, 3, -1, -1)
    augment = ADA(policy=("blit",), probability={"rotate90": 0}, p=1.0)
    both = augment(image, augment.quantile(image, 0.9))
    assert (both - applied("xint", 0.9, image.flip(3)))[:, :, 5:-5, 5:-5].abs().max() < 0.03


@pytest.mark.parametrize("q", [0.2, 0.9])
def test_colours_follow_their_formulas(q: float) -> None:
    image, e = images(), erfinv(q)
    luma = image.mean(dim=1, keepdim=True)
    by = {
        "brightness": image + 0.2 * e,
        "contrast": image * 2 ** (0.5 * e),
        "lumaflip": image - 2 * luma if q > 0.5 else image,
        "saturation": luma + (image - luma) * 2**e,
    }
    for transform, expected in by.items():
        torch.testing.assert_close(applied(transform, q, image), expected)


def test_a_third_of_a_turn_of_hue_exchanges_the_primary_colours() -> None:
    image = images()
    torch.testing.assert_close(applied("hue", 5 / 6, image), image.roll(1, dims=1))
    torch.testing.assert_close(applied("hue", 1 / 6, image), image.roll(-1, dims=1))


def test_grey_images_change_as_grey_pixels_of_colour_images_do() -> None:
    grey = images(channels=1)
    augment = ADA(policy=ALL, probability={"noise": 0}, p=1.0)
    for q in (0.2, 0.8):
        draws = augment.quantile(grey, q)
        of_colour = augment(grey.expand(-1, 3, -1, -1), augment.quantile(grey.expand(-1, 3, -1, -1), q))
        torch.testing.assert_close(augment(grey, draws), of_colour[:, :1])


def test_the_filters_of_the_bands_add_up_to_none_and_split_the_frequencies() -> None:
    bank = filter_bank().double()
    whole = torch.zeros(bank.shape[1], dtype=torch.float64)
    whole[len(whole) // 2] = 1
    torch.testing.assert_close(bank.sum(dim=0), whole, rtol=0, atol=1e-7)
    response = torch.fft.rfft(bank, n=1024).abs()
    for band, (low, high) in enumerate([(0, 1 / 8), (1 / 8, 1 / 4), (1 / 4, 1 / 2), (1 / 2, 1)]):
        middle = int(512 * (low + high) / 2) if band else 0
        assert response[:, middle].argmax() == band


@pytest.mark.parametrize("taps", [SYM2, SYM6], ids=["sym2", "sym6"])
def test_symlets_are_orthogonal_to_themselves_shifted_and_blind_to_polynomials(taps: tuple[float, ...]) -> None:
    filter = torch.tensor(taps, dtype=torch.float64)
    for shift in range(0, len(taps), 2):
        assert float(filter[shift:] @ filter[: len(taps) - shift]) == pytest.approx(float(shift == 0), abs=1e-11)
    place = torch.arange(len(taps), dtype=torch.float64)
    for degree in range(len(taps) // 2):
        assert float(((-1.0) ** place * filter * place**degree).sum()) == pytest.approx(0, abs=1e-5)


def test_a_louder_band_keeps_the_power_that_images_are_expected_to_have() -> None:
    flat = torch.ones(1, 3, 12, 50, dtype=torch.float64)
    for bands, share in (((1, 0, 0, 0), 10 / 13), ((0, 0, 0, 1), 1 / 13)):
        gain = 2 ** erfinv(0.9)
        scale = 1 / math.sqrt(1 + share * (gain**2 - 1))
        expected = flat * (scale * gain if bands[0] else scale) ** 2  # along both axes; of a flat image only band 0 is
        torch.testing.assert_close(applied("filter", 0.9, flat, bands=bands), expected, rtol=1e-6, atol=0)


def test_filters_see_the_reflection_even_of_images_smaller_than_themselves() -> None:
    small = images(height=6, width=9)
    period = torch.cat([small, small.flip(2)[:, :, 1:-1]], dim=2).repeat(1, 1, 9, 1)  # 90 rows, 10 a period
    found = applied("filter", 0.8, small)
    ratio = applied("filter", 0.8, period)[:, :, 40:46] / found
    torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=1e-6, atol=1e-6)


def test_noise_has_the_deviation_of_its_draw() -> None:
    image = images(height=64, width=64)
    found = applied("noise", 0.7, image) - image
    assert float(found.std()) == pytest.approx(0.1 * torch.erfinv(torch.tensor(0.7)).item(), rel=0.03)


@pytest.mark.parametrize("q", [0.05, 0.5, 0.8])
def test_cutout_puts_a_grey_box_of_half_the_sides(q: float) -> None:
    image = images()
    found, expected = applied("cutout", q, image), image.clone()
    for i in range(20):
        for j in range(28):
            if abs((i + 0.5) / 20 - q) < 0.25 and abs((j + 0.5) / 28 - q) < 0.25:
                expected[:, :, i, j] = 0
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert (found == 0).any()


def test_nothing_changes_at_p_0_and_everything_may_at_p_1() -> None:
    image = images(num=8)
    assert torch.equal(ADA(policy=[group for group in ALL if group != "filter"])(image), image)
    torch.testing.assert_close(ADA(policy=ALL)(image), image)
    changed = ADA(policy=ALL, p=1.0)(image)
    assert all((a - b).abs().max() > 0.01 for a, b in zip(changed, image, strict=True))


@pytest.mark.parametrize(("p", "factor", "share"), [(0.5, 1.0, 0.25), (0.5, 0.5, 0.125), (1.0, 1.0, 0.5)])
def test_a_transform_is_applied_as_often_as_p_says(p: float, factor: float, share: float) -> None:
    torch.manual_seed(0)
    image = torch.tensor([-1.0, -1, 1, 1]).expand(4000, 1, 4, 4)
    augment = ADA(policy=("blit",), probability={"xflip": factor, "rotate90": 0, "xint": 0}, p=p)
    mirrored = augment(image)[:, 0, 1, 0] > 0
    assert float(mirrored.double().mean()) == pytest.approx(share, abs=0.03)


def test_one_of_both_rotations_is_as_likely_as_any_other_transform() -> None:
    torch.manual_seed(0)
    augment, image = only("rotate"), images(num=4000, height=1, width=1)
    augment.p.fill_(0.36)
    values = augment.chosen(augment.draw(image))
    turned = (values["rotate"] != 0.5) | (values["rotate.second"] != 0.5)
    assert float(turned.double().mean()) == pytest.approx(0.36, abs=0.03)
    assert float((values["rotate"] != 0.5).double().mean()) == pytest.approx(0.2, abs=0.03)


def test_the_pipeline_is_twice_differentiable() -> None:
    """Towards the image it is affine; what R1 needs is the derivative of its gradient."""
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
def test_where_numbers_are_not_known_the_margin_is_the_largest_and_images_are_the_same(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    image = images(num=3, height=size[0], width=size[1])
    augment = ADA(policy=ALL, p=0.7, magnitude={"xfrac": 0.5})
    draws = augment.draw(image)
    expected = augment(image, draws)
    monkeypatch.setattr(warp, "knows_values", lambda image: False)
    torch.testing.assert_close(augment(image, draws), expected, rtol=0, atol=1e-9)


def test_geometry_goes_through_the_ops() -> None:
    image = images()
    with recording() as ran:
        applied("scale", 0.7, image)
    assert [op for op, _ in ran] == ["upfirdn2d", "grid_sample", "upfirdn2d"]
    with recording() as ran:
        ADA()(image)
    assert ran == []  # nothing moves at p 0, so nothing is resampled


def observed(augment: ADA, sign: float, steps: int, batch_size: int = 32) -> float:
    for _ in range(steps):
        augment.observe(torch.tensor(sign), batch_size)
    return augment.p.item()


def test_p_follows_the_sign_of_the_discriminators_logits() -> None:
    augment = ADA(kimg=1.0, interval=4)
    assert observed(augment, 0.9, 3) == 0
    assert observed(augment, 0.9, 1) == pytest.approx(0.128)
    assert observed(augment, 0.9, 4) == pytest.approx(0.256)
    assert observed(augment, 0.5, 4) == pytest.approx(0.128)
    assert observed(augment, 0.0, 16) == 0
    assert augment.strength()["p"] is augment.p


def test_p_is_steered_by_the_mean_over_its_interval() -> None:
    augment = ADA(kimg=1.0, interval=2)
    observed(augment, 1.0, 1)
    assert observed(augment, 0.1, 1) == 0  # 0.55 < 0.6
    observed(augment, 1.0, 1)
    assert observed(augment, 0.3, 1) == pytest.approx(0.064)


def test_p_stops_at_its_limit_and_only_there() -> None:
    assert observed(ADA(kimg=0.1, interval=1, limit=0.7), 1.0, 9) == pytest.approx(0.7)
    assert observed(ADA(kimg=0.1, interval=1, limit=None), 1.0, 9) == pytest.approx(2.88)
    assert observed(ADA(p=0.3, target=None), 1.0, 9) == pytest.approx(0.3)
    assert observed(ADA(interval=1), float("nan"), 9) == 0


def test_options_that_do_not_fit_are_told() -> None:
    with pytest.raises(
        IncompatibleError, match=r"probability\.noise +the policy \(blit\) has no noise; add noise to it"
    ):
        ADA(policy=("blit",), probability={"noise": 0.5})
    with pytest.raises(IncompatibleError, match=r"magnitude\.hue .*add color to it"):
        ADA(policy=("blit",), magnitude={"hue": 0.5})
    with pytest.raises(IncompatibleError, match=r"policy\.1 +blit is there twice"):
        ADA(policy=("blit", "blit"))
    with pytest.raises(IncompatibleError, match=r"p +starts at 0\.8, above its limit 0\.7"):
        ADA(p=0.8, limit=0.7)
    with pytest.raises(SpecValidationError, match="flip"):
        ADA(policy=("blit",), probability={"flip": 0.5})
    with pytest.raises(SpecValidationError, match="target"):
        ADA(target=1.5)

"""DiffAugment: each function against a loop over the images, its probabilities, and its derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blocks.augment.diff_augment import DiffAugment
from registry import IncompatibleError, SpecValidationError

ALL = ("flip", "translation", "resize", "color", "cutout")


def images(num: int = 6, height: int = 9, width: int = 14) -> Tensor:
    return torch.rand(num, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


def test_color_is_brightness_then_saturation_then_contrast() -> None:
    image, augment = images(), DiffAugment(policy=("color",))
    draws = augment.draw(image)
    expected = []
    for number, x in enumerate(image):
        b, s, c = (draws[f"{name}.value"][number].double() for name in ("brightness", "saturation", "contrast"))
        x = x + (b - 0.5)
        x = (x - x.mean(dim=0)) * (2 * s) + x.mean(dim=0)
        expected.append((x - x.mean()) * (c + 0.5) + x.mean())
    torch.testing.assert_close(augment(image, draws), torch.stack(expected), rtol=1e-6, atol=1e-6)


def test_translation_shifts_by_whole_pixels_with_zero_padding() -> None:
    image, augment = images(), DiffAugment(policy=("translation",), translation_ratio=0.4)
    draws = augment.draw(image)
    expected = torch.zeros_like(image)
    for number, (dy, dx) in enumerate(zip(draws["translation.dy"], draws["translation.dx"], strict=True)):
        for i in range(9):
            for j in range(14):
                if 0 <= i + dy < 9 and 0 <= j + dx < 14:
                    expected[number, :, i, j] = image[number, :, i + dy, j + dx]
    torch.testing.assert_close(augment(image, draws), expected, rtol=0, atol=0)


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.5, 0.9])
def test_cutout_sets_a_box_to_0_that_the_border_may_clip(ratio: float) -> None:
    image, augment = images(num=40), DiffAugment(policy=("cutout",), cutout_ratio=ratio)
    draws = augment.draw(image)
    actual, expected = augment(image, draws), image.clone()
    for number, (cy, cx) in enumerate(zip(draws["cutout.cy"].tolist(), draws["cutout.cx"].tolist(), strict=True)):
        for i in range(int(9 * ratio + 0.5)):
            for j in range(int(14 * ratio + 0.5)):
                row = min(max(cy - int(9 * ratio + 0.5) // 2 + i, 0), 8)
                column = min(max(cx - int(14 * ratio + 0.5) // 2 + j, 0), 13)
                expected[number, :, row, column] = 0
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize("value", [0.0, 0.13, 0.5, 0.77, 0.999])
def test_resize_is_a_bilinear_zoom_about_the_centre(value: float) -> None:
    image, augment = images(num=2, height=12, width=12), DiffAugment(policy=("resize",), resize_ratio=0.4)
    actual = augment(image, {"resize.value": torch.tensor([value, value], dtype=torch.float64)})
    side = int((0.6 + 0.8 * value) * 12)
    zoomed = F.interpolate(image, size=(side, side), mode="bilinear", align_corners=False)
    margin = abs(12 - side) // 2
    if side <= 12:
        zoomed = F.pad(zoomed, (margin, 12 - side - margin, margin, 12 - side - margin))
    else:
        zoomed = zoomed[:, :, margin : margin + 12, margin : margin + 12]
    torch.testing.assert_close(actual, zoomed, rtol=1e-9, atol=1e-12)


def test_flip_is_horizontal() -> None:
    image = images()
    torch.testing.assert_close(DiffAugment(policy=("flip",), flip_probability=1.0)(image), image.flip(3))


@pytest.mark.parametrize("function", ALL)
def test_images_whose_gate_is_closed_are_unchanged(function: str) -> None:
    image, augment = images(), DiffAugment.Spec(policy=[function], **{f"{function}_probability": 0.5}).build()
    draws = {
        name: torch.full_like(draw, 0.1 if draw.is_floating_point() else 1)
        for name, draw in augment.draw(image).items()
    }
    for name in draws:
        if name.endswith(".gate"):
            draws[name] = torch.tensor([0.0, 0.9, 0.49, 0.5, 0.51, 1.0])
    changed = (augment(image, draws) - image).abs().amax(dim=(1, 2, 3)) > 1e-12
    assert changed.tolist() == [True, False, True, False, False, False]


def test_each_image_is_changed_with_the_given_probability() -> None:
    torch.manual_seed(0)
    image, augment = torch.rand(4000, 3, 2, 3), DiffAugment(policy=("flip",), flip_probability=0.3)
    assert (augment(image) != image).any(dim=3).flatten(1).any(dim=1).float().mean() == pytest.approx(0.3, abs=0.03)


def test_draws_cover_exactly_their_ranges() -> None:
    torch.manual_seed(0)
    image = torch.empty(5000, 1, 16, 9)
    draws = DiffAugment(policy=ALL, cutout_ratio=0.5).draw(image)
    assert set(draws["translation.dy"].tolist()) == {-2, -1, 0, 1, 2}
    assert set(draws["translation.dx"].tolist()) == {-1, 0, 1}
    assert set(draws["cutout.cy"].tolist()) == set(range(17))  # the centre of a box of 8 is between pixels
    assert set(draws["cutout.cx"].tolist()) == set(range(9))  # a box of 5
    values = draws["brightness.value"]
    assert 0 <= values.min() < 0.01
    assert 0.99 < values.max() < 1


def test_draws_hold_what_the_policy_needs_and_make_results_repeatable() -> None:
    image, augment = images(), DiffAugment(policy=("cutout", "flip"), cutout_probability=0.5)
    draws = augment.draw(image)
    assert set(draws) == {"cutout.cy", "cutout.cx", "cutout.gate", "flip.gate"}
    torch.testing.assert_close(augment(image, draws), augment(image, draws), rtol=0, atol=0)
    torch.manual_seed(0)
    first = augment(image)
    torch.manual_seed(0)
    torch.testing.assert_close(first, augment(image), rtol=0, atol=0)


def test_functions_are_applied_in_the_order_of_the_policy() -> None:
    image = images()
    one, other = DiffAugment(policy=("cutout", "color")), DiffAugment(policy=("color", "cutout"))
    draws = one.draw(image)
    expected = DiffAugment(policy=("color",))(DiffAugment(policy=("cutout",))(image, draws), draws)
    torch.testing.assert_close(one(image, draws), expected)
    assert not torch.allclose(other(image, draws), expected)


def test_first_and_second_derivatives_are_correct() -> None:
    image, augment = images(num=2, height=6, width=5).requires_grad_(), DiffAugment(policy=ALL, cutout_ratio=0.5)
    draws = augment.draw(image)

    def cubed(x: Tensor) -> Tensor:
        return augment(x, draws).pow(3)

    assert torch.autograd.gradcheck(cubed, image, fast_mode=True)
    assert torch.autograd.gradgradcheck(cubed, image, fast_mode=True)


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (3, 3, 5, 8), (2, 4, 1, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_any_channels_sizes_and_dtypes_work(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    image = torch.rand(shape).to(dtype).contiguous(memory_format=torch.channels_last)
    y = DiffAugment(policy=ALL)(image)
    assert y.shape == shape
    assert y.dtype == dtype
    assert y.isfinite().all()


def test_a_repeated_function_is_incompatible() -> None:
    with pytest.raises(IncompatibleError, match=r"policy\.2 +color is listed twice"):
        DiffAugment(policy=("color", "flip", "color"))


def test_probabilities_follow_schedules() -> None:
    rising = {"kind": "linear", "init": 0.0, "final": 1.0, "kimg": 1}
    augment = DiffAugment(policy=("flip",), flip_probability=rising)
    image = images()
    assert torch.equal(augment(image), image)
    augment.at(1000)
    assert torch.equal(augment(image), image.flip(3))
    with pytest.raises(SpecValidationError, match="linear reaches 2, and values should be less than or equal to 1"):
        DiffAugment(flip_probability=rising | {"final": 2.0})

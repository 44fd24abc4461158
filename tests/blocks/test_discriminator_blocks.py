"""Intakes, layers and heads of discriminators."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.equalized import EqualConv2d, EqualLinear, leaky_relu
from blocks.common.resample import Downsample2d
from blocks.head.class_token import ClassTokenHead
from blocks.head.linear import LinearHead
from blocks.head.patch import PatchHead
from blocks.layer.conv import Conv
from blocks.layer.minibatch_std import MinibatchStd
from blocks.layer.residual_conv import ResidualConv
from blocks.stem.from_rgb import FromRGB
from blocks.stem.overlapping_patches import OverlappingPatches
from registry import IncompatibleError


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("activation", ["linear", "lrelu"])
def test_equalised_maps_carry_their_gain_in_the_weights(activation: Any) -> None:
    torch.manual_seed(0)
    linear = EqualLinear(5, 7, lr_multiplier=0.3, bias_init=0.4, activation=activation).double()
    conv = EqualConv2d(5, 7, 3, activation=activation, clamp=0.9).double()
    act = leaky_relu if activation == "lrelu" else nn.Identity()
    x, image = random(4, 5), random(2, 5, 6, 4)
    expected = act(x @ linear.weight.T * (0.3 / math.sqrt(5)) + linear.bias * 0.3)
    torch.testing.assert_close(linear(x), expected)
    with torch.no_grad():
        conv.bias.uniform_()
    expected = act(F.conv2d(image, conv.weight / math.sqrt(45), conv.bias, padding=1)).clamp(-0.9, 0.9)
    torch.testing.assert_close(conv(image), expected)


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 6, 8, 12])
@pytest.mark.parametrize(("group_size", "num_channels"), [(4, 1), (4, 3), (2, 2), (None, 1), (32, 6)])
def test_minibatch_std_is_a_loop_over_strided_groups(batch: int, group_size: int | None, num_channels: int) -> None:
    x, part = random(batch, 6, 3, 5), 6 // num_channels
    size = max(size for size in range(1, batch + 1) if batch % size == 0 and size <= (group_size or batch))
    appended = torch.empty(batch, num_channels, 3, 5, dtype=torch.float64)
    for sample in range(batch):
        group = [other for other in range(batch) if other % (batch // size) == sample % (batch // size)]
        assert len(group) == size
        for channel in range(num_channels):
            values = torch.stack([x[other, channel * part : (channel + 1) * part] for other in group])
            deviation = ((values - values.mean(dim=0)).square().mean(dim=0) + 1e-8).sqrt()
            appended[sample, channel] = deviation.mean()
    found = MinibatchStd(6, group_size=group_size, num_channels=num_channels)(x)
    torch.testing.assert_close(found, torch.cat([x, appended], dim=1), rtol=1e-12, atol=1e-12)


def test_minibatch_std_of_equal_images_has_a_finite_gradient() -> None:
    x = random(1, 4, 3, 3).expand(4, -1, -1, -1).clone().requires_grad_()
    y = MinibatchStd(4)(x)
    torch.testing.assert_close(y[:, 4:], torch.full((4, 1, 3, 3), 1e-4, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_minibatch_std_refuses_parts_that_are_uneven() -> None:
    with pytest.raises(IncompatibleError, match="16 channels do not split evenly into 3 parts"):
        MinibatchStd(16, num_channels=3)


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (2, 3), (16, 6)], ids=str)
@pytest.mark.parametrize("down", [1, 2])
@pytest.mark.parametrize("architecture", ["resnet", "orig"])
def test_residual_conv_gives_half_the_side_rounded_down(size: tuple[int, int], down: Any, architecture: Any) -> None:
    block = ResidualConv(6, size, dim=10, down=down, architecture=architecture)
    y = block(torch.randn(2, 6, *size).contiguous(memory_format=torch.channels_last))
    assert y.shape == (2, 10, size[0] // down, size[1] // down)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert sum(p.numel() for p in block.parameters()) == 9 * 36 + 6 + 9 * 60 + 10 + 60 * (architecture == "resnet")


def test_residual_conv_is_its_formula() -> None:
    torch.manual_seed(0)
    block, x = ResidualConv(4, (7, 9), dim=5).double(), random(2, 4, 7, 9)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
    kernel = (torch.outer(taps, taps) / 64).expand(4, 1, 4, 4)
    main = leaky_relu(F.conv2d(x, block.conv1.weight / 6, padding=1))
    main = F.conv2d(main, kernel, padding=2, groups=4)
    main = leaky_relu(F.conv2d(main, block.conv2.weight / 6, stride=2))
    skip = F.conv2d(F.conv2d(x, kernel, padding=1, stride=2, groups=4), block.skip.weight / 2)
    torch.testing.assert_close(block(x), (main + skip) / math.sqrt(2))


def test_residual_conv_keeps_the_variance_of_its_input_roughly() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 64, 32, 32)
    for _ in range(3):
        x = ResidualConv(64, (32, 32), dim=64, down=1)(x)
    assert 0.5 < x.square().mean() < 2


def test_a_single_pixel_cannot_be_halved() -> None:
    with pytest.raises(IncompatibleError, match=r"down +a map of 1x8 cannot be halved; take down: 1"):
        ResidualConv(4, (1, 8), dim=4)


def test_clamps_hold_what_convolutions_give() -> None:
    x = 1e4 * torch.randn(2, 6, 8, 8)
    assert Conv(6, dim=4, clamp=3.0)(x).abs().max() == 3
    assert FromRGB(3, dim=4, clamp=3.0)(None, x[:, :3])[0].abs().max() == 3
    assert ResidualConv(6, (8, 8), dim=4, clamp=3.0, architecture="orig")(x).abs().max() == 3


@pytest.mark.parametrize(
    ("image_size", "size"), [((16, 16), (16, 16)), ((16, 16), (4, 4)), ((13, 22), (3, 5))], ids=str
)
def test_from_rgb_adds_what_the_image_shrunk_to_the_features_says(image_size: Any, size: Any) -> None:
    torch.manual_seed(0)
    intake, x, image = FromRGB(3, 6).double(), random(2, 6, *size), random(2, 3, *image_size)
    small = image
    while small.shape[2] > size[0]:
        small = Downsample2d().double()(small)
    features, left = intake(x, image)
    torch.testing.assert_close(features, x + intake(None, small)[0])
    torch.testing.assert_close(left, small)


def test_from_rgb_says_what_does_not_fit() -> None:
    with pytest.raises(IncompatibleError, match="say how many channels"):
        FromRGB(3)
    with pytest.raises(IncompatibleError, match="8 channels cannot be added to 6; leave dim away to follow them"):
        FromRGB(3, 6, dim=8)
    with pytest.raises(IncompatibleError, match="halving an image of 16x16 never gives the 5x5 of the features"):
        FromRGB(3, 6)(torch.randn(2, 6, 5, 5), torch.randn(2, 3, 16, 16))


def test_patches_are_windows_around_each_patch_with_zeros_outside() -> None:
    torch.manual_seed(0)
    intake, image = OverlappingPatches(3, (8, 12), dim=5, patch_size=4, overlap=1).double(), random(2, 3, 8, 12)
    features, same = intake(None, image)
    assert same is image
    assert features.shape == (2, 5, 2, 3)
    padded = F.pad(image, (1, 1, 1, 1))
    for row in range(2):
        for column in range(3):
            window = padded[:, :, row * 4 : row * 4 + 6, column * 4 : column * 4 + 6].flatten(1)
            token = F.linear(window, intake.proj.weight.flatten(1), intake.proj.bias)
            torch.testing.assert_close(features[:, :, row, column], token + intake.pos_embed[row * 3 + column])


def test_a_class_token_comes_first_in_one_row_and_its_head_reads_it_alone() -> None:
    torch.manual_seed(0)
    intake = OverlappingPatches(3, (8, 12), dim=6, patch_size=4, overlap=0, class_token=True)
    features, _ = intake(None, torch.randn(2, 3, 8, 12))
    assert features.shape == (2, 6, 1, 7)
    torch.testing.assert_close(features[0, :, 0, 0], intake.class_token + intake.pos_embed[0])
    head = ClassTokenHead(6, (1, 7), hidden_dim=9)
    assert head(features).shape == (2, 1)
    torch.testing.assert_close(head(features), head(torch.cat([features[..., :1], features[..., 1:] * 9], dim=3)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OverlappingPatches(3, (8, 10), dim=6), r"patch_size +8x10 pixels do not divide into patches of 4"),
        (lambda: OverlappingPatches(3, (8, 8), 16, dim=6), "16 channels of features are there already"),
        (lambda: ClassTokenHead(6, (4, 4)), "the features are 4x4; give overlapping-patches class_token: true"),
    ],
)
def test_patches_and_tokens_say_what_does_not_fit(make: Any, message: str) -> None:
    with pytest.raises(IncompatibleError, match=message):
        make()


@pytest.mark.parametrize("hidden_dim", [None, 10])
def test_the_linear_head_is_two_equalised_maps(hidden_dim: int | None) -> None:
    torch.manual_seed(0)
    head, x = LinearHead(6, (2, 3), hidden_dim=hidden_dim).double(), random(4, 6, 2, 3)
    y = x.reshape(4, 36)
    if hidden_dim:
        y = leaky_relu(y @ head.hidden.weight.T / 6)
    torch.testing.assert_close(head(x), y @ head.out.weight.T / math.sqrt(y.shape[1]))


def test_the_hidden_layer_of_the_linear_head_may_have_two_biases() -> None:
    torch.manual_seed(0)
    head, x = LinearHead(6, (2, 3), hidden_dim=10, num_biases=2).double(), random(4, 6, 2, 3)
    nn.init.normal_(head.hidden.bias)
    nn.init.normal_(head.bias2)
    hidden = leaky_relu(x.reshape(4, 36) @ head.hidden.weight.T / 6 + head.hidden.bias + head.bias2)
    torch.testing.assert_close(head(x), hidden @ head.out.weight.T / math.sqrt(10))
    with pytest.raises(IncompatibleError, match="no hidden layer to have two biases; give hidden_dim"):
        LinearHead(6, (2, 3), hidden_dim=None, num_biases=2)


@pytest.mark.parametrize("mapping", [None, {"kind": "mapping", "num_layers": 2}])
def test_a_conditional_head_is_a_scalar_product_with_the_embedded_condition(mapping: Any) -> None:
    torch.manual_seed(0)
    head = LinearHead(6, (2, 3), 5, hidden_dim=10, mapping=mapping).double().eval()
    x, c = random(4, 6, 2, 3), random(4, 5, seed=1)
    projection = head.projection
    features = head.out(head.hidden(x.flatten(1)))
    embedded = projection.embed(c) if mapping is None else projection.mapping(c.new_zeros(4, 0), c)[:, 0]
    assert embedded.shape == (4, 10)
    torch.testing.assert_close(head(x, c), (features * embedded).sum(dim=1, keepdim=True) / math.sqrt(10))
    with pytest.raises(ValueError, match="made for conditions: give c"):
        head(x)


def test_a_patch_head_gives_a_logit_for_each_pixel() -> None:
    torch.manual_seed(0)
    head, x = PatchHead(6), torch.randn(2, 6, 3, 4)
    moved = x.clone()
    moved[:, :, 2, 1] += 1
    assert head(x).shape == (2, 12)
    assert ((head(moved) - head(x)).abs() > 1e-6).nonzero()[:, 1].tolist() == [9, 9]
    conditional = PatchHead(6, 5)
    assert conditional(x, torch.randn(2, 5)).shape == (2, 12)

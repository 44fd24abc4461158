"""ViTGAN's blocks against plain definitions: attention by distances, tokens, patches, heads, networks of sines."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blocks.attention.dense import DenseAttention
from blocks.attention.l2 import L2Attention
from blocks.common.noise import noise_mode
from blocks.families import to_nhwc
from blocks.head.class_token import ClassTokenHead
from blocks.head.contrad import ContraDHead
from blocks.image_head.inr_patches import INRPatches
from blocks.image_head.siren_patches import SirenPatches
from blocks.layer.transformer import Transformer
from blocks.ops.l2_attention import l2_attention
from blocks.stem.from_rgb import FromRGB
from blocks.stem.overlapping_patches import OverlappingPatches
from blocks.synthesis_input.learned_tokens import LearnedTokens
from registry import IncompatibleError, recording, second_order

KERNELS = pytest.mark.parametrize("kernel", ["auto", *(kernel.name for kernel in l2_attention.kernels())])
NO_STYLES = torch.zeros(2, 0, 12, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logits_of(block: L2Attention, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and values by the definitions in facts, one pair of tokens after the other."""
    q, k, v = block.heads(x.flatten(1, 2))
    far = (q[..., :, None, :] - k[..., None, :, :]).square().sum(-1)
    if block.queries_norms:
        means = q.square().mean(-1)
        far = means[..., :, None] + means[..., None, :] - 2 * q @ k.mT
    logits = block.sign * block.scale * (far if block.squared else far.sqrt())
    return logits if block.temperature is None else logits * block.temperature, v


@KERNELS
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"squared": False, "sign": 1, "qkv_bias": True},
        {"tied": False, "head_dim": 3, "gain": 0.5, "scale": 1.0},
        {"tied": False, "sign": 1, "key_norms": "mean-of-queries", "temperature": True, "equalized": True},
        {"temperature": True},
    ],
    ids=str,
)
def test_l2_attention_is_its_definition_through_every_kernel(options, kernel):
    torch.manual_seed(0)
    height, width = (16, 33) if kernel == "augmented" else (4, 5)  # it pays for many keys only, and says so
    block, x = L2Attention(12, num_heads=2, kernel=kernel, **options).double(), normal(1, height, width, 12)
    if block.temperature is not None:
        torch.nn.init.constant_(block.temperature, 0.7)
    logits, v = logits_of(block, x)
    expected = block.proj((logits.softmax(-1) @ v).transpose(1, 2).flatten(-2) * block.gain).unflatten(
        1, (height, width)
    )
    with torch.no_grad():
        q, k, _ = block.heads(x.flatten(1, 2))
        (named,) = [each for each in l2_attention.kernels() if each.name == kernel] or [l2_attention.reference]
        if kernel != "auto" and (reasons := named.unsupported(q, k, v, squared=block.squared)):
            pytest.skip("; ".join(reasons))
        torch.testing.assert_close(block(x), expected)


def test_penalties_get_l2_attention_that_is_differentiable_twice():
    block, x = L2Attention(4, num_heads=2).double(), normal(1, 2, 3, 4).requires_grad_()
    with second_order(), recording() as ran:
        assert torch.autograd.gradgradcheck(block, x)
    assert set(ran) == {("l2_attention", "reference")}


def test_options_of_l2_attention_that_exclude_each_other_are_misfits():
    for option in ({"temperature": True}, {"key_norms": "mean-of-queries"}):
        with pytest.raises(IncompatibleError, match=f"{next(iter(option))} +goes with squared distances"):
            L2Attention(8, squared=False, **option)
    with pytest.raises(IncompatibleError, match="9 channels do not split evenly over 2 heads"):
        L2Attention(9, num_heads=2)


def test_l2_attention_pictures_are_logits_of_the_mean_query():
    block, x = L2Attention(8, num_heads=2).double(), normal(2, 3, 4, 8)
    q, k, _ = block.heads(x.flatten(1, 2))
    expected = -(q.mean(-2, keepdim=True) - k).square().sum(-1) / 2
    torch.testing.assert_close(block.attention_map(x).flatten(2), expected)


def test_dense_attention_may_have_other_heads_a_temperature_and_a_gain():
    block, x = (
        DenseAttention(6, (3, 4), num_heads=2, head_dim=5, temperature=True, gain=0.3).double(),
        normal(2, 3, 4, 6),
    )
    torch.nn.init.constant_(block.temperature, 1.7)
    q, k, v = block.qkv(x).flatten(1, 2).unflatten(-1, (3, 2, 5)).permute(2, 0, 3, 1, 4)
    mixed = (1.7 / math.sqrt(5) * q @ k.mT).softmax(-1) @ v
    expected = block.proj(0.3 * mixed.transpose(1, 2).flatten(-2))
    torch.testing.assert_close(block(x).flatten(1, 2), expected)


def test_tokens_can_carry_the_style():
    source, ws = LearnedTokens(12, dim=12, resolution=(2, 3), latent="add").double(), normal(2, 1, 12)
    assert source.num_styles == 1
    plain = to_nhwc(source(torch.zeros_like(ws)))
    torch.testing.assert_close(to_nhwc(source(ws)), plain + ws[:, 0, None, None])
    for there, said in ((None, "no style here"), (8, "the style has 8 features")):
        with pytest.raises(IncompatibleError, match=said):
            LearnedTokens(there, dim=12, latent="add")


@pytest.mark.parametrize(("side", "step"), [(8, 4), (5, 3), (3, 4)])
def test_patches_without_padding_are_those_that_lie_in_the_image(side, step):
    image = normal(2, 3, 16, 13)
    options = {"patch_size": step, "window_size": side, "padding": "none", "position": "sine"}
    patches = OverlappingPatches(3, (16, 13), dim=6, **options).double()
    windows = image.unfold(2, side, step).unfold(3, side, step)  # b k rows columns side side
    tokens = torch.einsum("bkrcij,dkij->brcd", windows, patches.proj.weight) + patches.proj.bias
    expected = tokens + torch.sin(patches.pos_embed).view(tokens.shape[1:])
    torch.testing.assert_close(to_nhwc(patches(None, image)[0]), expected)


def test_patches_of_an_odd_margin_see_one_more_pixel_after_them():
    image = normal(2, 3, 8, 12)
    patches = OverlappingPatches(3, (8, 12), dim=6, patch_size=4, window_size=7).double()
    seen = F.pad(image, (1, 2, 1, 2)).unfold(2, 7, 4).unfold(3, 7, 4)
    tokens = torch.einsum("bkrcij,dkij->brcd", seen, patches.proj.weight) + patches.proj.bias
    expected = tokens + patches.pos_embed.view(2, 3, 6)
    torch.testing.assert_close(to_nhwc(patches(None, image)[0]), expected)


def test_patches_that_do_not_fit_are_misfits():
    with pytest.raises(IncompatibleError, match="square of 9 pixels does not lie in 8x12; take padding: zeros"):
        OverlappingPatches(3, (8, 12), dim=6, window_size=9, padding="none")
    with pytest.raises(IncompatibleError, match="8x10 pixels do not divide into patches of 4"):
        OverlappingPatches(3, (8, 10), dim=6)


def test_a_class_token_may_pass_several_layers_and_a_last_gelu():
    head, x = ClassTokenHead(8, (1, 5), hidden_dim=(7, 6), gelu_at_the_end=True).double(), normal(3, 8, 1, 5)
    y = head.norm(x[:, :, 0, 0])
    for layer in (head.hidden[0], head.hidden[2], head.out):
        y = F.gelu(layer(y))
    torch.testing.assert_close(head(x), y)
    assert (head(x) > -0.18).all()


def test_contrastive_projections_rest_until_they_are_thawed_and_leave_the_logit_alone():
    head, x = ContraDHead(4, (2, 2), hidden_dim=6, projection_hidden_dim=5, projection_dim=3), torch.randn(2, 4, 2, 2)
    resting = {name for name, parameter in head.named_parameters() if not parameter.requires_grad}
    assert resting == {f"project{i}.{layer}.{part}" for i in (1, 2) for layer in (0, 2) for part in ("weight", "bias")}
    first, second = head.projections(x)
    assert first.shape == second.shape == (2, 3)
    hidden = F.leaky_relu(head.project1[0](x.flatten(1)), 0.1)
    torch.testing.assert_close(first, head.project1[2](hidden))
    torch.testing.assert_close(head(x), head.out(head.hidden(x.flatten(1))))


def test_images_in_the_unit_range_are_centred_before_their_features():
    intake, unit = FromRGB(3, dim=6, value_range="unit").double(), normal(2, 3, 4, 4).sigmoid()
    features, kept = intake(None, unit)
    symmetric = FromRGB(3, dim=6).double()
    symmetric.load_state_dict(intake.state_dict())
    torch.testing.assert_close(features, symmetric(None, 2 * unit - 1)[0])
    assert torch.equal(kept, unit)


def test_a_shared_norm_comes_before_both_halves():
    options = {"attention": {"kind": "dense", "num_heads": 2}, "norm": "sln", "feed_forward": "identity"}
    block = Transformer(8, (3, 4), 8, shared_norm=True, **options).double()
    x, ws = normal(2, 8, 3, 4), normal(2, 1, 8)
    h = to_nhwc(x)
    middle = h + block.attn(block.norm1(h, ws[:, 0]))
    torch.testing.assert_close(to_nhwc(block(x, ws)), middle + block.norm1(middle, ws[:, 0]))
    assert not any(name.startswith("norm2") for name in block.state_dict())


def test_noise_of_implicit_patches_is_none_const_or_random():
    block, x = INRPatches(6, 1, (2, 3), patch_size=2, hidden_dims=(5, 5), noise=True).double(), normal(2, 6, 2, 3)
    for noise in block.noise:
        torch.nn.init.constant_(noise.strength, 0.4)
    plain = INRPatches(6, 1, patch_size=2, hidden_dims=(5, 5)).double()
    plain.load_state_dict({name: value for name, value in block.state_dict().items() if "noise" not in name})
    ws = NO_STYLES
    with noise_mode("none"):
        torch.testing.assert_close(block(x, ws), plain(x, ws))
    with noise_mode("const"):
        assert torch.equal(block(x, ws), block(x, ws))
    with noise_mode("random"):
        assert not torch.equal(block(x, ws), block(x, ws))
    with pytest.raises(IncompatibleError, match="needs to know how many tokens"):
        INRPatches(6, noise=True)


def test_noise_of_implicit_patches_enters_at_its_pixel():
    block, x = INRPatches(6, 1, (2, 3), patch_size=2, hidden_dims=(5,), noise=True).double(), normal(1, 6, 2, 3)
    torch.nn.init.constant_(block.noise[0].strength, 1.0)
    block.noise[0].const.zero_()
    with noise_mode("const"):
        before = block(x, NO_STYLES)
        block.noise[0].const[3, 4] = 2.0
        changed = (block(x, NO_STYLES) != before)[0, 0].nonzero()
    assert changed.tolist() == [[3, 4]]


def test_implicit_patches_may_sum_colours_of_several_depths_and_speak_the_unit_range():
    options = {"patch_size": 2, "hidden_dims": (5, 4, 4, 3, 3), "rgb_every": 2}
    block, x = INRPatches(6, 1, **options).double(), normal(2, 6, 2, 3)
    assert list(block.early_rgb) == ["2"]
    unit = INRPatches(6, 1, **options, value_range="unit").double()
    unit.load_state_dict(block.state_dict())
    torch.testing.assert_close(unit(x, NO_STYLES), block(x, NO_STYLES) / 2 + 0.5)
    both = block(x, NO_STYLES)
    torch.nn.init.zeros_(block.to_rgb.weight)
    early = block(x, NO_STYLES)
    torch.nn.init.zeros_(block.early_rgb["2"].weight)
    assert not torch.allclose(both, early)
    assert (block(x, NO_STYLES) == 0).all()


@pytest.mark.parametrize("modulation", ["modulate", "demodulate", "add"])
@pytest.mark.parametrize("num_tokens", [2, 30])
def test_each_token_draws_its_patch_by_sines_of_its_own(modulation, num_tokens):
    torch.manual_seed(0)
    block = SirenPatches(6, patch_size=3, hidden_dims=(5, 6), omega=2.0, modulation=modulation).double()
    x = normal(1, 6, 1, num_tokens)
    image = block(x, NO_STYLES)
    for number in (0, num_tokens - 1):
        token = x[0, :, 0, number]
        for row, column in ((0, 0), (2, 1)):
            pixel = block.fourier()[row, column]
            for index, layer in enumerate(block.network.layers):
                weight = layer.weight / math.sqrt(layer.weight.shape[1])
                style = token if layer.affine is None else layer.affine(token)
                if modulation == "add":
                    pixel = weight @ (pixel + style)
                else:
                    weight = weight * style
                    if modulation == "demodulate":
                        weight = weight / (weight.square().sum(1, keepdim=True) + 1e-8).sqrt()
                    pixel = weight @ pixel
                pixel = torch.sin(2 * pixel) if index < 2 else pixel
            torch.testing.assert_close(image[0, :, row, 3 * number + column], pixel)


def test_one_network_of_sines_can_draw_the_whole_image():
    block, x = SirenPatches(6, 1, (2, 3), patch_size=2, hidden_dims=(6,), whole=True).double(), normal(2, 6, 2, 3)
    token = F.gelu(block.join(to_nhwc(x).reshape(2, -1)))
    expected = block.network(block.fourier().flatten(0, 1), token)  # b p 1
    torch.testing.assert_close(block(x, NO_STYLES)[:, 0].flatten(1), expected[..., 0])
    with pytest.raises(IncompatibleError, match="needs to know how many tokens"):
        SirenPatches(6, whole=True)

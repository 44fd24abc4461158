"""StyleGAN2-ADA's networks and weight rules, at options that the recordings do not have."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from assemblies import parse
from assemblies.conversion.weight_map import translate
from assemblies.models.stylegan2 import architecture, checkpoint
from registry import IncompatibleError
from registry.kernels import reference_kernels


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({"img_resolution": 32, "architecture": "orig", "channel_base": 32768}, 20_720_641),
        ({"img_resolution": 32}, 21_507_073),
        ({"img_resolution": 64, "architecture": "orig", "channel_base": 32768}, 25_440_257),
        ({"img_resolution": 128, "architecture": "orig", "channel_base": 32768}, 27_209_473),
        ({"img_resolution": 64, "channel_base": 32768}, 26_488_833),
        ({"img_resolution": 128, "channel_base": 32768}, 28_389_121),
        ({"img_resolution": 256}, 24_001_089),
        ({"img_resolution": 32, "architecture": "orig", "channel_base": 32768, "c_dim": 10}, 23_089_664),
    ],
)
def test_discriminators_have_the_parameters_of_the_reference(options: dict[str, Any], parameters: int) -> None:
    args = {"c_dim": 0, "img_channels": 3, "channel_base": 16384, "channel_max": 512} | options
    with torch.device("meta"):
        network = architecture.discriminator_spec(args).build(**architecture.discriminator_context(args))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_discriminators_accept_images_of_48_pixels() -> None:
    for kind in ("resnet", "orig", "skip"):
        options = architecture.discriminator(48, channel_base=96, channel_max=8, architecture=kind)
        network = parse(options).build(resolution=48, image_channels=3, cond_dim=0)
        assert network(torch.randn(3, 3, 48, 48)).shape == (3, 1)


def generator_args(**synthesis: Any) -> dict[str, Any]:
    options = {"channel_base": 64, "channel_max": 6, "num_fp16_res": 2, "conv_clamp": 256} | synthesis
    args = {"z_dim": 8, "c_dim": 0, "w_dim": 10, "img_resolution": 16, "img_channels": 3}
    return args | {"mapping_kwargs": {"num_layers": 2}, "synthesis_kwargs": options}


def test_every_tensor_of_a_generator_is_converted() -> None:
    args = generator_args()
    network = architecture.generator_spec(args).build()
    shapes = {"mapping.w_avg": (10,), "synthesis.b4.const": (6, 4, 4)}
    for layer, width in enumerate((8, 10)):
        shapes |= {f"mapping.fc{layer}.weight": (10, width), f"mapping.fc{layer}.bias": (10,)}
    previous_dim = 6
    for size, dim in {4: 6, 8: 6, 16: 4}.items():
        for conv, in_dim in {"conv0": previous_dim, "conv1": dim}.items():
            if (size, conv) != (4, "conv0"):
                layer = f"synthesis.b{size}.{conv}"
                shapes |= {f"{layer}.weight": (dim, in_dim, 3, 3), f"{layer}.bias": (dim,)}
                shapes |= {f"{layer}.affine.weight": (in_dim, 10), f"{layer}.affine.bias": (in_dim,)}
                shapes |= {f"{layer}.noise_strength": (), f"{layer}.noise_const": (size, size)}
                shapes |= {f"{layer}.resample_filter": (4, 4)}
        layer = f"synthesis.b{size}.torgb"
        shapes |= {f"{layer}.weight": (3, dim, 1, 1), f"{layer}.bias": (3,)}
        shapes |= {f"{layer}.affine.weight": (dim, 10), f"{layer}.affine.bias": (dim,)}
        previous_dim = dim
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    rules = checkpoint.generator_rules(args)
    network.load_state_dict(translate(rules, tensors, network, ignored=checkpoint.is_resample_filter))
    with reference_kernels():
        assert network.eval()(torch.randn(2, 8)).shape == (2, 3, 16, 16)
    assert torch.equal(network.synthesis[2].weight.detach(), tensors["synthesis.b4.torgb.weight"][:, :, 0, 0])
    assert torch.equal(network.synthesis[3].noise.const, tensors["synthesis.b8.conv0.noise_const"])


@pytest.mark.parametrize("kind", ["resnet", "orig", "skip"])
def test_every_tensor_of_a_conditional_discriminator_is_converted(kind: str) -> None:
    args = {"c_dim": 5, "img_resolution": 16, "img_channels": 3, "architecture": kind, "cmap_dim": 7}
    args |= {"channel_base": 64, "channel_max": 6, "conv_clamp": 256, "mapping_kwargs": {"num_layers": 2}}
    args |= {"block_kwargs": {"freeze_layers": 2}, "epilogue_kwargs": {"mbstd_group_size": 2, "mbstd_num_channels": 2}}
    shapes: dict[str, tuple[int, ...]] = {"mapping.embed.weight": (7, 5), "mapping.embed.bias": (7,)}
    for layer in (0, 1):
        shapes |= {f"mapping.fc{layer}.weight": (7, 7), f"mapping.fc{layer}.bias": (7,)}
    for size, dim in {16: 4, 8: 6}.items():
        convs = {"conv0": (dim, dim, 3, 3), "conv1": (6, dim, 3, 3)}
        if size == 16 or kind == "skip":
            convs["fromrgb"] = (dim, 3, 1, 1)
        for conv, shape in convs.items():
            shapes |= {f"b{size}.{conv}.weight": shape, f"b{size}.{conv}.bias": shape[:1]}
        if kind == "resnet":
            shapes[f"b{size}.skip.weight"] = (6, dim, 1, 1)
    if kind == "skip":
        shapes |= {"b4.fromrgb.weight": (6, 3, 1, 1), "b4.fromrgb.bias": (6,)}
    shapes |= {"b4.conv.weight": (6, 8, 3, 3), "b4.conv.bias": (6,), "b4.out.weight": (7, 6), "b4.out.bias": (7,)}
    shapes |= {"b4.fc.weight": (6, 96), "b4.fc.bias": (6,), "b4.resample_filter": (4, 4)}
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    network = architecture.discriminator_spec(args).build(**architecture.discriminator_context(args))
    rules = checkpoint.discriminator_rules(args)
    network.load_state_dict(translate(rules, tensors, network, ignored=checkpoint.is_resample_filter))
    assert network(torch.randn(4, 3, 16, 16), torch.eye(5)[:4]).shape == (4, 1)


def test_all_options_that_no_block_has_are_listed() -> None:
    args = generator_args(architecture="resnet", magnitude_ema_beta=0.999)
    with pytest.raises(IncompatibleError) as caught:
        architecture.generator_spec(args)
    message = str(caught.value)
    assert "synthesis_kwargs.architecture         is 'resnet'; only 'skip' is supported" in message
    assert "synthesis_kwargs.magnitude_ema_beta   is 0.999; no block has this option" in message

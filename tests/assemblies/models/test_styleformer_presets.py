"""The presets of Styleformer and StyleGAN2: sizes of the published networks, and what they are trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from assemblies import check, parse
from assemblies.conversion.weight_map import translate
from assemblies.models.styleformer import architecture as styleformer
from assemblies.models.styleformer import presets
from assemblies.models.stylegan2 import architecture as stylegan2
from assemblies.models.stylegan2 import presets as stylegan2_presets
from registry import IncompatibleError, catalogue
from registry.kernels import reference_kernels

PARAMETERS = {
    "styleformer-cifar10-32": (18_369_040, 20_720_641),
    "styleformer-stl10-48": (7_966_096, None),  # the discriminator is ours
    "styleformer-celeba-64": (8_567_505, 23_407_361),
    "styleformer-church-128": (13_929_621, 23_882_369),
    "stylegan2-ffhq-256": (24_767_458, 24_001_089),
}
OURS = ("mini-styleformer", "styleformer-c-256", "styleformer-c-1024")


@pytest.mark.parametrize("name", PARAMETERS)
def test_presets_have_the_parameters_of_the_published_networks(name: str) -> None:
    found = check(parse(catalogue.presets()[name]()))
    counts = (found["generator"].parameters, found["discriminator"].parameters)
    assert counts == tuple(
        wanted if wanted is not None else count for wanted, count in zip(PARAMETERS[name], counts, strict=True)
    )


@pytest.mark.parametrize("name", [*PARAMETERS, *OURS])
def test_presets_are_documents_whose_images_have_the_size_that_they_are_named_after(name: str) -> None:
    spec = parse(catalogue.presets()[name]())
    assert parse(spec.to_dict()) == spec
    resolution = 16 if name.startswith("mini") else int(name.rpartition("-")[2])
    found = check(spec)
    assert found["generator"].image == (1 if name.startswith("mini") else 3, resolution, resolution)
    assert found["discriminator"].steps[-1].logits == (1,)


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
        network = styleformer.discriminator_spec(args).build(**styleformer.discriminator_context(args))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("num_layers", "widths", "depth", "c_dim", "parameters"),
    [
        ([1, 2, 2], [256, 64, 16], 32, 0, 1_334_142),
        ([1, 3, 3], [256, 64, 16], 32, 0, 1_438_064),
        ([1, 3, 3], [1024, 512, 512], 32, 10, 18_636_816),
    ],
)
def test_generators_have_the_parameters_of_the_reference(
    num_layers: list[int], widths: list[int], depth: int, c_dim: int, parameters: int
) -> None:
    synthesis = {"depth": depth, "minimum_head": 1, "num_layers": num_layers, "G_dict": widths, "linformer": False}
    synthesis |= {"conv_clamp": 256, "channel_base": 16384, "channel_max": 512, "num_fp16_res": 4}
    args = {"z_dim": 512, "c_dim": c_dim, "w_dim": 512, "img_resolution": 32, "img_channels": 3}
    args |= {"mapping_kwargs": {"num_layers": 2}, "synthesis_kwargs": synthesis}
    with torch.device("meta"):
        network = styleformer.generator_spec(args).build()
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_the_reference_s_unused_style_vectors_are_accounted_for() -> None:
    document = presets.styleformer_stl10_48().to_dict()
    penalty = next(each for each in document["regularizers"] if each["kind"] == "path-length")
    assert penalty["weight"] == pytest.approx(2 * 8 / 10)  # 7 layers and a readout use 8 of 10
    assert document["style_mixing"] == pytest.approx(0.9 * 7 / 9)


def test_linformer_starts_where_told() -> None:
    steps = presets.synthesis_steps(8, (32, 16, 8), (1, 1, 1), rank=20, linformer_from=16)
    ranks = {name: step["rank"] for name, step in steps.items() if name.endswith(".enc")}
    assert ranks == {"b8_0.enc": None, "b16_0.enc": 20, "b32_0.enc": 20}


def test_images_of_48_pixels_are_judged() -> None:
    for architecture in ("resnet", "orig", "skip"):
        options = stylegan2_presets.discriminator(48, channel_base=96, channel_max=8, architecture=architecture)
        network = parse(options).build(resolution=48, image_channels=3, cond_dim=0)
        assert network(torch.randn(3, 3, 48, 48)).shape == (3, 1)


def args_of_stylegan2(**synthesis: Any) -> dict[str, Any]:
    about = {"channel_base": 64, "channel_max": 6, "num_fp16_res": 2, "conv_clamp": 256} | synthesis
    args = {"z_dim": 8, "c_dim": 0, "w_dim": 10, "img_resolution": 16, "img_channels": 3}
    return args | {"mapping_kwargs": {"num_layers": 2}, "synthesis_kwargs": about}


def test_tensors_of_a_stylegan2_generator_find_their_places() -> None:
    args = args_of_stylegan2()
    network = stylegan2.generator_spec(args).build()
    shapes = {"mapping.w_avg": (10,), "synthesis.b4.const": (6, 4, 4)}
    for layer, width in enumerate((8, 10)):
        shapes |= {f"mapping.fc{layer}.weight": (10, width), f"mapping.fc{layer}.bias": (10,)}
    before = 6
    for size, dim in {4: 6, 8: 6, 16: 4}.items():
        for conv, in_dim in {"conv0": before, "conv1": dim}.items():
            if (size, conv) != (4, "conv0"):
                place = f"synthesis.b{size}.{conv}"
                shapes |= {f"{place}.weight": (dim, in_dim, 3, 3), f"{place}.bias": (dim,)}
                shapes |= {f"{place}.affine.weight": (in_dim, 10), f"{place}.affine.bias": (in_dim,)}
                shapes |= {f"{place}.noise_strength": (), f"{place}.noise_const": (size, size)}
                shapes |= {f"{place}.resample_filter": (4, 4)}
        place = f"synthesis.b{size}.torgb"
        shapes |= {f"{place}.weight": (3, dim, 1, 1), f"{place}.bias": (3,)}
        shapes |= {f"{place}.affine.weight": (dim, 10), f"{place}.affine.bias": (dim,)}
        before = dim
    theirs = {name: torch.randn(shape) for name, shape in shapes.items()}
    rules = stylegan2.generator_rules(args)
    state = translate(rules, theirs, network, ignored=stylegan2.generator_ignored)
    network.load_state_dict(state)
    with reference_kernels():
        assert network.eval()(torch.randn(2, 8)).shape == (2, 3, 16, 16)
    assert torch.equal(network.synthesis[2].weight.detach(), theirs["synthesis.b4.torgb.weight"][:, :, 0, 0])
    assert torch.equal(network.synthesis[3].noise.const, theirs["synthesis.b8.conv0.noise_const"])


@pytest.mark.parametrize("architecture", ["resnet", "orig", "skip"])
def test_tensors_of_a_conditional_discriminator_find_their_places(architecture: str) -> None:
    args = {"c_dim": 5, "img_resolution": 16, "img_channels": 3, "architecture": architecture, "cmap_dim": 7}
    args |= {"channel_base": 64, "channel_max": 6, "conv_clamp": 256, "mapping_kwargs": {"num_layers": 2}}
    args |= {"block_kwargs": {"freeze_layers": 2}, "epilogue_kwargs": {"mbstd_group_size": 2, "mbstd_num_channels": 2}}
    shapes: dict[str, tuple[int, ...]] = {"mapping.embed.weight": (7, 5), "mapping.embed.bias": (7,)}
    for layer in (0, 1):
        shapes |= {f"mapping.fc{layer}.weight": (7, 7), f"mapping.fc{layer}.bias": (7,)}
    for size, dim in {16: 4, 8: 6}.items():
        convs = {"conv0": (dim, dim, 3, 3), "conv1": (6, dim, 3, 3)}
        if size == 16 or architecture == "skip":
            convs["fromrgb"] = (dim, 3, 1, 1)
        for conv, shape in convs.items():
            shapes |= {f"b{size}.{conv}.weight": shape, f"b{size}.{conv}.bias": shape[:1]}
        if architecture == "resnet":
            shapes[f"b{size}.skip.weight"] = (6, dim, 1, 1)
    if architecture == "skip":
        shapes |= {"b4.fromrgb.weight": (6, 3, 1, 1), "b4.fromrgb.bias": (6,)}
    shapes |= {"b4.conv.weight": (6, 8, 3, 3), "b4.conv.bias": (6,), "b4.out.weight": (7, 6), "b4.out.bias": (7,)}
    shapes |= {"b4.fc.weight": (6, 96), "b4.fc.bias": (6,), "b4.resample_filter": (4, 4)}
    theirs = {name: torch.randn(shape) for name, shape in shapes.items()}
    network = stylegan2.discriminator_spec(args).build(**stylegan2.discriminator_context(args))
    rules = stylegan2.discriminator_rules(args)
    network.load_state_dict(translate(rules, theirs, network, ignored=stylegan2.discriminator_ignored))
    assert network(torch.randn(4, 3, 16, 16), torch.eye(5)[:4]).shape == (4, 1)


def test_options_without_a_counterpart_are_told_together() -> None:
    args = args_of_stylegan2(architecture="resnet", magnitude_ema_beta=0.999)
    with pytest.raises(IncompatibleError) as caught:
        stylegan2.generator_spec(args)
    told = str(caught.value)
    assert "synthesis_kwargs.architecture         is 'resnet'; only 'skip' has a counterpart here" in told
    assert "synthesis_kwargs.magnitude_ema_beta   is 0.999, and nothing here corresponds to it" in told


def test_resolutions_of_a_styleformer_have_to_end_at_its_images() -> None:
    synthesis = {"depth": 4, "minimum_head": 1, "num_layers": [1, 1], "G_dict": [8], "conv_clamp": 256}
    args = {"z_dim": 8, "w_dim": 8, "img_resolution": 24, "img_channels": 3, "synthesis_kwargs": synthesis}
    with pytest.raises(
        IncompatibleError, match=r"synthesis_kwargs.G_dict +1 widths for the 2 resolutions of num_layers"
    ):
        styleformer.generator_spec(args)
    args |= {"img_resolution": 25, "synthesis_kwargs": synthesis | {"G_dict": [8, 8]}}
    with pytest.raises(
        IncompatibleError, match=r"num_layers +2 resolutions, each twice the one before, do not end at 25"
    ):
        styleformer.generator_spec(args)


@pytest.mark.slow
def test_the_mini_preset_learns_digits(tmp_path: Path) -> None:
    from ganblocks import DigitScore, train

    spec = parse(presets.mini_styleformer().to_dict() | {"kimg": 12})  # half of it: about 90 seconds on one thread
    score = DigitScore(16)
    trained = train(spec, data="digits", out=tmp_path, seed=0).generator
    assert score.score(trained) < score.ceiling(trained, 0) / 2  # 14 % of it when this was written

"""StyleGAN-T's presets: published sizes, counted on the meta device; the parameters of each resolution."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from assemblies import GAN, LayeredGenerator, ProjectedDiscriminator, check, parse, read
from assemblies.models.stylegan_t import architecture
from assemblies.trace import Trace

README = {"channel_base": 16384, "channel_max": 256, "num_pairs": 1}
# resolution: (full text, full unconditional, lite text, lite unconditional, README's text, README's unconditional)
PARAMETERS = {
    32: (877_008_289, 768_477_601, 55_076_251, 35_019_163, 11_839_637, 5_348_501),
    64: (975_556_011, 845_791_659, 74_556_835, 47_421_859, 16_170_395, 7_319_963),
    128: (1_005_955_509, 865_574_325, 82_577_579, 51_313_835, 18_360_737, 8_035_745),
    256: (1_016_436_671, 870_747_071, 85_703_219, 52_375_091, 19_308_455, 8_246_183),
    512: (1_020_497_609, 872_153_801, 87_044_859, 52_684_539, 19_745_453, 8_314_541),
    1024: (1_022_233_171, 872_562_259, 87_660_387, 52_783_971, None, None),
}
NUM_WS = {32: (22, 16, 10), 64: (29, 21, 13), 128: (36, 26, 16), 256: (43, 31, 19), 512: (50, 36, 22)}


def on_meta(resolution: int, cond_dim: int, size: dict[str, int]) -> Any:
    with torch.device("meta"):
        return parse(architecture.generator(resolution, cond_dim=cond_dim, **size), LayeredGenerator).build()


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("resolution", [64, pytest.param(512, marks=pytest.mark.slow)])
def test_generators_have_the_published_number_of_parameters(resolution: int) -> None:
    sizes = [architecture.FULL, architecture.LITE, README]
    counts = [count(on_meta(resolution, cond_dim, size)) for size in sizes for cond_dim in (768, 0)]
    assert tuple(counts) == PARAMETERS[resolution]
    assert tuple(on_meta(resolution, 768, size).num_ws for size in sizes) == NUM_WS[resolution]


@pytest.mark.slow
@pytest.mark.parametrize("resolution", [32, 128, 256, 1024])
def test_generators_of_other_resolutions_have_the_published_number_of_parameters(resolution: int) -> None:
    sizes = [architecture.FULL, architecture.LITE, README][: 2 if resolution == 1024 else 3]
    counts = [count(on_meta(resolution, cond_dim, size)) for size in sizes for cond_dim in (768, 0)]
    assert tuple(counts) == tuple(each for each in PARAMETERS[resolution] if each is not None)


def test_each_resolution_has_its_published_number_of_parameters() -> None:
    generator = on_meta(512, 768, architecture.FULL)
    shares = dict.fromkeys((8, 16, 32, 64, 128, 256, 512), 0)
    for block, name in zip(generator.synthesis, architecture.synthesis_steps(512, **architecture.FULL), strict=True):
        shares[int(name.partition(".")[0][1:])] += count(block)
    assert list(shares.values()) == [
        266_552_589,
        305_223_690,
        305_223_690,
        98_547_722,
        30_399_498,
        10_481_162,
        4_060_938,
    ]
    assert count(generator.mapping) == 8_320


def test_the_discriminator_has_the_published_number_of_parameters() -> None:
    spec = parse(architecture.discriminator(), ProjectedDiscriminator)
    traces: list[Trace] = [spec.block.trace(spec, (64, 64), 3, cond_dim) for cond_dim in (768, 0)]
    assert [trace.parameters for trace in traces] == [29_419_264, 29_051_909]
    heads = [step.parameters for step in traces[0].steps if step.path == ("head",)]
    assert heads == [1_550_720] * 5
    assert traces[0].steps[-1].logits == (196,)


@pytest.mark.parametrize("name", ["stylegan-t-64", "stylegan-t-lite-512"])
def test_presets_can_be_checked_without_allocating_memory(name: str) -> None:
    spec = read(name, GAN)
    traces = check(spec)
    size = int(name.rpartition("-")[2])
    assert traces["generator"].image == (3, size, size)
    assert traces["discriminator"].parameters == 29_419_264


def test_the_tensors_of_a_model_of_64_pixels_are_in_a_larger_model_too() -> None:
    small, large = (on_meta(size, 768, README).state_dict() for size in (64, 256))
    assert all(name in large and large[name].shape == value.shape for name, value in small.items())


def test_the_small_preset_is_conditioned_on_digit_classes() -> None:
    spec = read("mini-stylegan-t", GAN)
    generator = spec.generator.build().eval()
    c = generator.condition_of(["0", "7", "7"])
    image = generator(torch.randn(3, generator.z_dim), c)
    assert image.shape == (3, 1, 16, 16)
    ws = generator.mapping(torch.randn(3, generator.z_dim), c, truncation_psi=0.0)
    assert torch.equal(ws[1], ws[2]), "a class has one mean style"
    assert not torch.equal(ws[0], ws[1])
    check(spec)


def test_too_few_channels_for_the_groups_are_refused() -> None:
    document = architecture.generator(1024, channel_base=16384, channel_max=256, num_pairs=1)
    with pytest.raises(ValueError, match="16 channels do not split evenly into 32 groups; take 16"):
        check(parse(document, LayeredGenerator))

"""The discriminator on features of frozen networks: trained parts, crops, value ranges and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from assemblies import GAN, ProjectedDiscriminator, check, load_discriminator, parse, save_model
from blocks.families import Batch, Networks
from blocks.regularizer.r1 import R1
from blocks.regularizer.r2 import R2
from ganblocks.pixels import from_bytes
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.trainer import Trainer
from registry import IncompatibleError, second_order
from tests import tiny

VIT = {
    "kind": "timm",
    "network": "vit_small_patch16_224",
    "weights": None,
    "image_size": 16,
    "depths": [2, 0],
    "arguments": {"embed_dim": 8, "depth": 2, "num_heads": 2, "patch_size": 4},
}
HEAD = {"kind": "token-conv", "embed_dim": 4}
PROJECTED = {"kind": "projected", "networks": [VIT], "head": HEAD}


def projected(resolution: Any = 16, cond_dim: int = 0, networks: Any = (VIT,), **options: Any) -> Any:
    torch.manual_seed(0)
    spec = ProjectedDiscriminator.Spec(networks=list(networks), head=HEAD, **options)
    return spec.build(resolution=resolution, image_channels=3, cond_dim=cond_dim)


def test_each_depth_of_each_network_has_its_own_head() -> None:
    wider = VIT | {"image_size": 24, "depths": [1], "arguments": VIT["arguments"] | {"embed_dim": 12}}
    network = projected(networks=(VIT, wider))
    assert [len(heads) for heads in network.heads] == [2, 1]
    logits = network(torch.rand(3, 3, 16, 16))
    assert logits.shape == (3, 2 * 16 + 36)


def test_only_heads_are_trained() -> None:
    network = projected(cond_dim=5)
    image = torch.rand(4, 3, 16, 16, requires_grad=True)
    network(image, torch.rand(4, 5)).sum().backward()
    trainable = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trainable
    assert all(name.startswith("heads.") for name in trainable)
    assert all(parameter.grad is not None for name, parameter in network.named_parameters() if name in trainable)
    assert image.grad is not None
    assert image.grad.isfinite().all()


@pytest.mark.parametrize("batch", [1, 2, 9, 13, 17])
def test_batches_of_any_size_get_logits(batch: int) -> None:
    assert projected()(torch.rand(batch, 3, 16, 16)).shape == (batch, 32)


@pytest.mark.parametrize("resolution", [(8, 8), (16, 16), (40, 24), (15, 33)])
def test_images_of_any_size_get_logits_in_training_and_eval_mode(resolution: tuple[int, int]) -> None:
    network = projected(resolution)
    for mode in (True, False):
        assert network.train(mode)(torch.rand(2, 3, *resolution)).isfinite().all()


def test_a_crop_is_a_part_of_the_image_and_the_same_place_for_the_whole_batch() -> None:
    network = projected(40, crop_probability=1.0).train()
    places = torch.arange(40.0 * 40).view(1, 1, 40, 40).expand(2, 3, -1, -1)
    corners = set()
    for seed in range(60):
        torch.manual_seed(seed)
        crop = network.fit(places, (16, 16))
        top, left = divmod(int(crop[0, 0, 0, 0]), 40)
        assert torch.equal(crop, places[:, :, top : top + 16, left : left + 16])
        corners.add((top, left))
    assert len(corners) > 40
    assert {0, 24} <= {top for top, _ in corners} | {left for _, left in corners}, "borders are reached"


def test_images_are_not_cropped_with_probability_0_or_in_eval_mode() -> None:
    image = torch.rand(2, 3, 40, 40)
    torch.testing.assert_close(projected(40).eval().fit(image, (16, 16)), image)
    never = projected(40, crop_probability=0.0).train()
    torch.testing.assert_close(never.fit(image, (16, 16)), image)
    sometimes = projected(40, crop_probability=0.5).train()
    whole = torch.nn.functional.adaptive_avg_pool2d(image, (16, 16))
    seen = [torch.equal(sometimes.fit(image, (16, 16)), whole) for _ in range(60)]
    assert 10 < sum(seen) < 50


def test_spectral_norm_is_updated_by_each_call_in_training_only() -> None:
    network = projected()
    image = torch.rand(2, 3, 16, 16)
    vector = network.heads[0][0].conv2.parametrizations.weight[0].u
    before = vector.clone()
    network.eval()(image)
    assert torch.equal(vector, before)
    network.train()(image)
    assert not torch.equal(vector, before)


def test_the_trace_counts_frozen_networks_and_heads() -> None:
    trace = ProjectedDiscriminator.trace(ProjectedDiscriminator.Spec(networks=[VIT], head=HEAD), (16, 16), 3, 5)
    network = projected(cond_dim=5)
    assert trace.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert trace.multiply_adds > 0
    assert [step.path for step in trace.steps] == [("networks", 0), ("head",), ("head",)]


def test_problems_have_paths() -> None:
    document = {
        "kind": "gan",
        "generator": {
            "kind": "layered",
            "z_dim": 4,
            "image_channels": 2,
            "synthesis": [{"kind": "constant", "resolution": 8, "dim": 4}, {"kind": "to-rgb"}],
        },
        "discriminator": {"kind": "projected", "networks": [VIT, VIT | {"depths": [7]}]},
    }
    with pytest.raises(IncompatibleError) as error:
        check(parse(document))
    assert "discriminator.networks.0   networks of timm take RGB or grey images, not 2 channels" in str(error.value)
    document["generator"]["image_channels"] = 3  # type: ignore[index]
    with pytest.raises(IncompatibleError) as error:
        check(parse(document))
    assert "discriminator.networks.1.depths.0   VisionTransformer has depths 0 to 2, not 7" in str(error.value)


def test_at_least_one_network_is_required() -> None:
    with pytest.raises(IncompatibleError, match="networks   is empty"):
        projected(networks=())


def test_a_training_step_changes_heads_and_no_frozen_weight() -> None:
    spec = parse(
        {
            "kind": "gan",
            "generator": {
                "kind": "layered",
                "z_dim": 4,
                "synthesis": [{"kind": "constant", "resolution": 24, "dim": 4}, {"kind": "to-rgb"}],
            },
            "discriminator": {"kind": "projected", "networks": [VIT], "head": HEAD},
            "loss": "hinge",
            "batch_size": 2,
        },
        GAN,
    )
    trainer = Trainer(spec, DistributedContext("cpu"))
    before = {name: value.clone() for name, value in trainer.discriminator.named_parameters()}
    trainer.train_step(torch.rand(2, 3, 24, 24) * 2 - 1, None)
    moved = {name for name, value in trainer.discriminator.named_parameters() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("heads.") for name in moved)


def test_a_gradient_penalty_reaches_the_heads_through_the_frozen_networks() -> None:
    document = dict(generator=tiny.GENERATOR, regularizers=[{"kind": "r1", "every": 2}], batch_size=4, kimg=0.004)
    trainer = Trainer(parse({"kind": "gan", "discriminator": PROJECTED, **document}), DistributedContext("cpu"))
    trainer.train_step(torch.rand(4, 3, 16, 16), None)
    assert trainer.losses.read()["r1"] > 0
    assert not trainer.non_finite.read()


def with_range(value_range: str, **options: Any) -> dict[str, Any]:
    generator = {
        "kind": "layered",
        "z_dim": 4,
        "value_range": value_range,
        "synthesis": [{"kind": "constant", "resolution": 16, "dim": 4}, {"kind": "to-rgb"}],
    }
    return {"kind": "gan", "generator": generator, "discriminator": PROJECTED, **options}


def test_the_same_picture_gives_the_same_features_and_logits_in_every_value_range(tmp_path: Path) -> None:
    picture = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    inputs, logits = [], []
    for value_range in ("symmetric", "unit", "imagenet"):
        torch.manual_seed(0)
        discriminator = parse(with_range(value_range), GAN).build().discriminator.eval()
        discriminator.networks[0].register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        logits.append(discriminator(from_bytes(picture, value_range)))
        save_model(tmp_path / "model.safetensors", discriminator)
        loaded = load_discriminator(tmp_path / "model.safetensors")
        torch.testing.assert_close(loaded(from_bytes(picture, value_range)), logits[-1])
    for value, result in zip(inputs, logits, strict=True):
        torch.testing.assert_close(value, from_bytes(picture, "symmetric"))
        torch.testing.assert_close(result, logits[0])


def test_steps_of_a_projected_discriminator_cannot_be_frozen() -> None:
    spec = parse(with_range("symmetric", freeze_d=1), GAN)
    with pytest.raises(IncompatibleError, match="freeze_d   a discriminator of kind projected cannot be frozen"):
        check(spec)
    with pytest.raises(IncompatibleError, match="freeze_d   a discriminator of kind projected cannot be frozen"):
        spec.build()


@pytest.mark.parametrize("kind", ["r1", "r2"])
def test_penalties_on_features_are_those_of_the_heads_alone(kind: str) -> None:
    discriminator, images = projected().double().eval(), torch.rand(3, 3, 16, 16, dtype=torch.float64)
    networks = Networks(torch.nn.Identity(), discriminator, lambda image: 2 * image)
    regularizer = (R1 if kind == "r1" else R2)(gamma=2.0, at="features")
    with second_order():
        penalty = regularizer(networks, Batch(real=images, fake=images))
        features = [each.detach().requires_grad_() for each in discriminator.features(2 * images)]
        gradients = torch.autograd.grad(discriminator.logits(features).sum(), features)
    torch.testing.assert_close(penalty, sum((each**2).sum() for each in gradients) / 3)
    weights = torch.autograd.grad(penalty, [each for each in discriminator.parameters() if each.requires_grad][:1])
    assert weights[0].abs().max() > 0


def test_a_penalty_on_features_needs_a_discriminator_that_has_them() -> None:
    document = tiny.gan(regularizers=[{"kind": "r1", "at": "features"}])
    with pytest.raises(IncompatibleError, match=r"regularizers\.0\.at.*no features of frozen networks"):
        check(parse(document))
    assert check(parse(document | {"discriminator": PROJECTED}))


CNN = VIT | {"network": "resnet18", "image_size": 32, "depths": [2, 3, 5], "arguments": {"channels": [4, 6, 4, 8]}}
MIXED = {"layout": "map", "mixing": "scales", "head": "patch"}


def test_mixing_is_the_papers_fixed_random_network() -> None:
    torch.manual_seed(0)
    spec = ProjectedDiscriminator.Spec(networks=[CNN], **MIXED)
    network = spec.build(resolution=32).eval()
    image = torch.rand(2, 3, 32, 32)
    tokens = zip(network.networks[0](image), (8, 4, 1), strict=True)
    fine, middle, coarse = (each.mT.unflatten(2, (side, side)) for each, side in tokens)
    (mixer,) = network.mixers
    coarse = F.conv2d(coarse, mixer.channels[2].weight)
    up = F.interpolate(F.conv2d(coarse, mixer.scales[1].weight, padding=1), (4, 4), mode="bilinear")
    middle = F.conv2d(middle, mixer.channels[1].weight) + up
    up = F.interpolate(F.conv2d(middle, mixer.scales[0].weight, padding=1), (8, 8), mode="bilinear")
    fine = F.conv2d(fine, mixer.channels[0].weight) + up
    for mixed, expected in zip(network.features(image), (fine, middle, coarse), strict=True):
        torch.testing.assert_close(mixed, expected)
    assert network(image).shape == (2, 64 + 16 + 1)


def test_mixing_is_saved_and_not_trained() -> None:
    discriminator = {"kind": "projected", "networks": [CNN], "layers": [{"kind": "conv", "dim": 4}], **MIXED}
    trainer = Trainer(parse(tiny.gan(discriminator=discriminator, regularizers=["r1"])), DistributedContext("cpu"))
    before = {name: value.clone() for name, value in trainer.discriminator.named_parameters()}
    trainer.train_step(torch.rand(8, 3, 16, 16) * 2 - 1, None)
    after = dict(trainer.discriminator.named_parameters())
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    trained = {name for name in before if name.startswith(("layers.", "heads."))}
    assert changed == trained
    assert {name.partition(".")[0] for name in before} == {"networks", "mixers", "layers", "heads"}


def test_mixing_of_rows_of_tokens_is_refused() -> None:
    with pytest.raises(IncompatibleError, match=r"mixing +scales mixes maps, .* set layout: map"):
        projected(mixing="scales")

"""ViTGAN's whole networks and blocks through the importers, the authors' and the re-implementation's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from assemblies.conversion.weight_map import WeightRule, translate
from assemblies.models.vitgan import architecture as vitgan
from assemblies.models.vitgan import reimplementation as vitgan_reimplementation
from assemblies.models.vitgan.parts import pair
from blocks.augment.diff_augment import DiffAugment
from blocks.common.noise import Noise
from blocks.families import Batch, Networks, to_nchw, to_nhwc
from blocks.image_head.siren_patches import Siren
from blocks.layer.transformer import Transformer
from blocks.regularizer.balanced_consistency import BalancedConsistency
from blocks.regularizer.r1 import R1
from blocks.stem.overlapping_patches import OverlappingPatches
from blocks.weight_norm.apply import normalize_weights
from blocks.weight_norm.improved_spectral import ImprovedSpectralNorm
from registry import Spec
from tests.golden.recipe import Fixture, adapter

Outputs = dict[str, Tensor]


@adapter("vitgan", "off_generator")
def official_generator(fixture: Fixture) -> Outputs:
    args = fixture.config["arch"]
    network = build(vitgan.generator_spec(args), fixture)
    depth = args["num_layers"]
    wanted = {"w": "mapping", "pos_tokens": "synthesis.0", "block0": "synthesis.1", "tokens": f"synthesis.{1 + depth}"}
    rules = vitgan.generator_rules(args)
    weights = state(network, rules, fixture, vitgan.generator_ignored)
    give_noises(fixture, network, rules)
    with watched(network, wanted) as seen:
        image = functional_call(network, weights, fixture.inputs["z"], strict=True)
    outputs = {"w": seen["w"][:, 0], "image": image.clamp(0, 1) if args["use_nerf_proj"] else image}
    outputs |= {name: to_nhwc(seen[name]).flatten(1, 2) for name in ("pos_tokens", "block0", "tokens")}
    return outputs | {"pos_tokens": outputs["pos_tokens"][:1]}


@adapter("vitgan", "off_block")
def official_block(fixture: Fixture) -> Outputs:
    config, x = fixture.config, fixture.inputs["x"]
    rules = vitgan.block_rules("block", "theirs", config)
    spec = Transformer.Spec.model_validate(vitgan.block_options(config))
    block = build(spec, fixture, dim=x.shape[2], resolution=(1, x.shape[1]), style_dim=x.shape[2])
    return {"y": transformed(block, rules, fixture, x, fixture.inputs["w"])}


@adapter("vitgan", "paper_dblock")
def paper_discriminator_block(fixture: Fixture) -> Outputs:
    config, x = fixture.config, fixture.inputs["x"]
    attention = {"kind": "l2", "num_heads": config["heads"], "squared": config["squared"], "sign": int(config["sign"])}
    feed_forward = {"kind": "mlp", "mlp_ratio": vitgan.ratio(config["mlp_dim"], config["dim"])}
    block = Transformer(config["dim"], (1, x.shape[1]), attention=attention, feed_forward=feed_forward)
    names = {"norm1": "ln1", "norm2": "ln2", "attn.q": "attn.wq", "attn.v": "attn.wv", "attn.proj": "attn.wo"}
    names |= {"mlp.fc1": "fc1", "mlp.fc2": "fc2"}
    rules = [
        part
        for ours, theirs in names.items()
        for part in pair(f"block.{ours}", f"theirs.{theirs}", bias=f"{theirs}.bias" in fixture.tensors)
    ]
    return {"y": transformed(block.to(fixture.dtype), rules, fixture, x)}


@adapter("vitgan", "re_generator")
def re_implemented_generator(fixture: Fixture) -> Outputs:
    args = dict(fixture.config["arch"])
    network = build(vitgan_reimplementation.generator_spec(args), fixture)
    rules = vitgan_reimplementation.generator_rules(args)
    weights = state(network, rules, fixture, vitgan_reimplementation.generator_ignored)
    with watched(network, {"w": "mapping", "encoder_out": f"synthesis.{args['depth']}"}) as seen:
        image = functional_call(network, weights, fixture.inputs["z"], strict=True)
    return {"w": seen["w"][:, 0], "encoder_out": to_nhwc(seen["encoder_out"]).flatten(1, 2), "image": image}


@adapter("vitgan", "re_siren")
def re_implemented_siren(fixture: Fixture) -> Outputs:
    arch, pixels = fixture.config["arch"], fixture.inputs["pos"]
    assert arch.get("outermost_linear", True)
    widths = (arch["in_features"], *[arch["hidden_size"]] * (1 + arch["hidden_layers"]), arch["out_features"])
    args = arch | {"siren_hidden_layers": arch["hidden_layers"]}
    modulation: Any = vitgan_reimplementation.siren_modulation(args)
    siren = Siren(widths, arch["style_size"], omega=arch.get("omega", 30.0), modulation=modulation).to(fixture.dtype)
    args["affine"] = [layer for layer, width in enumerate(widths[:-1]) if width != arch["style_size"]]
    rules = vitgan_reimplementation.siren_rules("siren", "theirs.", args)
    ours = {
        name.removeprefix("siren."): value
        for name, value in renamed(rules, {f"theirs.{name}": value for name, value in fixture.tensors.items()}).items()
    }
    if modulation != "add":
        pixels = pixels.reshape(pixels.mT.shape).mT
    y = functional_call(siren, ours, (pixels, fixture.inputs["style"]), strict=True)
    return {"y": y if modulation == "add" else y.mT.reshape(y.shape)}


@adapter("vitgan", "re_patch_embed")
def re_implemented_patches(fixture: Fixture) -> Outputs:
    config = fixture.config
    patches = OverlappingPatches(
        config["in_channels"],
        config["image_size"],
        dim=config["emb_size"],
        patch_size=config["stride_size"],
        window_size=config["patch_size"],
        padding="none",
        position="sine",
        class_token=True,
    ).to(fixture.dtype)
    normalize_weights(patches, ImprovedSpectralNorm.Spec(sigma="power-iteration"))
    rules = list(vitgan_reimplementation.patch_rules("patches", "theirs", {}))
    tensors = {f"theirs.{name}": value for name, value in (fixture.tensors | fixture.attributes).items()}
    ours = {name.removeprefix("patches."): value for name, value in renamed(rules, tensors).items()}
    features, _ = functional_call(patches, ours, (None, fixture.inputs["image"]), strict=True)
    return {"tokens": features[:, :, 0].mT}


@adapter("vitgan", "re_discriminator")
def re_implemented_discriminator(fixture: Fixture) -> Outputs:
    config, image = fixture.config, fixture.inputs["image"]
    args = config["arch"] | {"head_sizes": config.get("head_sizes")}
    spec = vitgan_reimplementation.discriminator_spec(args)
    network = build(spec, fixture, resolution=image.shape[-2:], image_channels=image.shape[1])
    rules = vitgan_reimplementation.discriminator_rules(args)
    weights = state(network, rules, fixture, vitgan_reimplementation.discriminator_ignored)

    def judge(image: Tensor, c: Tensor | None = None) -> Tensor:
        return functional_call(network, weights, image, strict=True)

    with watched(network, {"encoder_out": f"steps.{args['depth']}"}) as seen:
        outputs = {"logit": judge(image)}
    outputs["encoder_out"] = seen["encoder_out"][:, :, 0].mT
    batch, networks = Batch(real=image), Networks(nn.Identity(), judge, nn.Identity())
    if config.get("r1"):
        outputs["r1"] = R1(gamma=2.0)(networks, batch)
    if config.get("with_augment"):
        draws = {name: value for name, value in fixture.inputs.items() if name != "image"}
        policy: Any = tuple(args["diffaugment"].split(","))
        augment = DiffAugment(policy=policy, translation_ratio=0.1, cutout_ratio=0.3)
        outputs["logit_augmented"] = judge(augment(image, draws))
        if config.get("bcr"):
            consistency = BalancedConsistency(lambda_real=1.0, lambda_fake=0.0, augment=augment.spec)
            consistency.augment.forward = lambda image: augment(image, draws)
            outputs["bcr_pairwise"] = consistency(networks, batch)
            # there every image is compared with every other
            outputs["bcr_as_coded"] = (outputs["logit_augmented"].flatten() - outputs["logit"]).square().mean()
    return outputs


def build(spec: Spec, fixture: Fixture, **context: Any) -> nn.Module:
    network: nn.Module = spec.build(**context)
    return network.to(fixture.dtype).eval()


def state(network: nn.Module, rules: Iterable[WeightRule], fixture: Fixture, ignored: Any) -> dict[str, Tensor]:
    """Our tensors made of the fixture's, and the buffers that no checkpoint holds."""
    tensors = fixture.tensors | fixture.attributes
    found = translate(rules, tensors, network, ignored=ignored)
    return dict(network.named_buffers()) | {name: value.to(fixture.dtype) for name, value in found.items()}


def renamed(rules: Iterable[WeightRule], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {ours: make(*(tensors[name] for name in theirs)) for ours, theirs, make in rules}


def transformed(
    block: nn.Module, rules: Iterable[WeightRule], fixture: Fixture, x: Tensor, w: Tensor | None = None
) -> Tensor:
    """What a block makes of tokens x [B,N,C]; its moves are from names after "theirs." to names after "block."."""
    tensors = {f"theirs.{name}": value for name, value in (fixture.tensors | fixture.attributes).items()}
    ours = {name.removeprefix("block."): value for name, value in renamed(rules, tensors).items()}
    y = functional_call(block, ours, (to_nchw(x[:, None]), None if w is None else w[:, None]), strict=True)
    return to_nhwc(y)[:, 0]


@contextmanager
def watched(network: nn.Module, names: Mapping[str, str]) -> Iterator[dict[str, Tensor]]:
    """While open, the dictionary it gives holds what these modules, by our names, gave last."""
    seen: dict[str, Tensor] = {}

    def hook(name: str) -> Any:
        return lambda module, args, output: seen.update({name: output})

    hooks = [network.get_submodule(place).register_forward_hook(hook(name)) for name, place in names.items()]
    try:
        yield seen
    finally:
        for each in hooks:
            each.remove()


def give_noises(fixture: Fixture, network: nn.Module, rules: Iterable[WeightRule]) -> None:
    """Let each noise be the one that the fixture gives, named after its strength."""
    for ours, theirs, _ in rules:
        if theirs and theirs[0].endswith("noise.weight"):
            given = fixture.inputs["noise:" + theirs[0].removesuffix(".weight")]
            give_noise(network.get_submodule(ours.rpartition(".")[0]), given)


def give_noise(module: Any, noise: Tensor) -> None:
    """Let a noise be this one: [B,1,H,W] for an image, or [B N,1,P,P] for the patches of its N tokens."""
    assert isinstance(module, Noise)

    def forward(x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        size = noise.shape[2]
        patches = noise.view(batch, height // size, width // size, size, size)
        return x + (patches.transpose(2, 3).reshape(batch, height, width) * module.strength)[..., None]

    module.forward = forward  # type: ignore[method-assign]

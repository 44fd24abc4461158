"""ViTGAN's self-modulated LayerNorm in its three forms, and the transformer blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor, nn
from torch.func import functional_call

from assemblies.conversion.weight_map import WeightRule
from assemblies.models.vitgan.architecture import mlp_ratio
from assemblies.models.vitgan.official import architecture as official
from assemblies.models.vitgan.official import checkpoint as official_checkpoint
from assemblies.models.weight_rules import weight_and_bias
from blocks.families import to_nchw, to_nhwc
from blocks.layer.transformer import Transformer
from blocks.norm.sln import SelfModulatedLayerNorm
from blocks.weight_norm.apply import normalize_weights
from blocks.weight_norm.improved_spectral import ImprovedSpectralNorm
from tests.golden.adapters.networks import apply_rules, build, with_prefix
from tests.golden.fixtures import Fixture, Outputs, adapter, without_prefix

OFFICIAL_NAMES = {
    "mlp_": "",
    "multiplier": "parametrizations.weight.0.sigma_init",
    "module.weight_u": "parametrizations.weight.0.u",
    "module.weight_bar": "parametrizations.weight.original",
    "module.bias": "bias",
}


@adapter("vitgan", "off_sln")
def official_sln(fixture: Fixture) -> Outputs:
    dim = fixture.config["dim"]
    norm = SelfModulatedLayerNorm(dim, dim, gain_init=1.0, eps=1e-3)
    if fixture.config.get("spectral_norm"):
        normalize_weights(norm, ImprovedSpectralNorm.Spec(sigma="power-iteration"))
    tensors = {}
    for name, value in (fixture.tensors | fixture.attributes).items():
        if not name.endswith("weight_v"):  # not used
            for old, new in OFFICIAL_NAMES.items():
                name = name.replace(old, new)
            tensors[name] = value
    return {"y": modulate(norm, tensors, fixture.inputs["x"], fixture.inputs["w"])}


@adapter("vitgan", "paper_sln")
def paper_sln(fixture: Fixture) -> Outputs:
    config = fixture.config
    norm = SelfModulatedLayerNorm(config["dim"], config["w_dim"], eps=config["eps"])
    return {"y": modulate(norm, equalized(fixture.tensors), fixture.inputs["h"], fixture.inputs["w"])}


@adapter("vitgan", "re_sln")
def reimplemented_sln(fixture: Fixture) -> Outputs:
    dim = fixture.config["input_size"]
    norm = SelfModulatedLayerNorm(dim, dim, bias=False, affine=True, eps=1e-5)
    tensors = {name.replace("ln.", "norm."): value for name, value in fixture.tensors.items()}
    return {"y": modulate(norm, tensors, fixture.inputs["x"], fixture.inputs["w"])}


def modulate(norm: SelfModulatedLayerNorm, tensors: dict[str, Tensor], x: Tensor, w: Tensor) -> Tensor:
    """The norm of tokens x [B,N,C]."""
    return functional_call(norm, tensors, (x[:, None], w), strict=True)[:, 0]


@adapter("vitgan", "off_block")
def official_block(fixture: Fixture) -> Outputs:
    config, x = fixture.config, fixture.inputs["x"]
    rules = official_checkpoint.block_rules("block", "layer", config)
    spec = Transformer.Spec.model_validate(official.block_options(config))
    block = build(spec, fixture, dim=x.shape[2], resolution=(1, x.shape[1]), style_dim=x.shape[2])
    return {"y": transform(block, rules, fixture, x, fixture.inputs["w"])}


@adapter("vitgan", "paper_gblock")
def paper_generator_block(fixture: Fixture) -> Outputs:
    config, x = fixture.config, fixture.inputs["x"]
    names = {"sln1.": "norm1.", "sln2.": "norm2.", "qkv.": "attn.qkv.", "wo.": "attn.proj.", "fc": "mlp.fc"}
    tensors = {}
    for name, value in equalized(fixture.tensors).items():
        prefix = next(prefix for prefix in names if name.startswith(prefix))
        tensors[names[prefix] + name.removeprefix(prefix)] = value
    block = Transformer(
        config["dim"],
        (1, x.shape[1]),
        config["w_dim"],
        attention={"kind": "dense", "num_heads": config["heads"], "qkv_bias": "qkv.bias" in fixture.tensors},
        norm={"kind": "sln", "eps": config["eps"]},
        feed_forward={"kind": "mlp", "mlp_ratio": mlp_ratio(config["mlp_dim"], config["dim"])},
    )
    y = functional_call(block, tensors, (to_nchw(x[:, None]), fixture.inputs["w"][:, None]), strict=True)
    return {"y": to_nhwc(y)[:, 0]}


@adapter("vitgan", "paper_dblock")
def paper_discriminator_block(fixture: Fixture) -> Outputs:
    config, x = fixture.config, fixture.inputs["x"]
    attention = {"kind": "l2", "num_heads": config["heads"], "squared": config["squared"], "sign": int(config["sign"])}
    feed_forward = {"kind": "mlp", "mlp_ratio": mlp_ratio(config["mlp_dim"], config["dim"])}
    block = Transformer(config["dim"], (1, x.shape[1]), attention=attention, feed_forward=feed_forward)
    names = {"norm1": "ln1", "norm2": "ln2", "attn.q": "attn.wq", "attn.v": "attn.wv", "attn.proj": "attn.wo"}
    names |= {"mlp.fc1": "fc1", "mlp.fc2": "fc2"}
    rules = [
        part
        for target, source in names.items()
        for part in weight_and_bias(f"block.{target}", f"layer.{source}", bias=f"{source}.bias" in fixture.tensors)
    ]
    return {"y": transform(block.to(fixture.dtype), rules, fixture, x)}


def equalized(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of gamma and beta as an equalised linear map stores them, which divides by sqrt(in) when it is used."""
    modulation = ("gamma.weight", "beta.weight")
    return {
        name: value * math.sqrt(value.shape[1]) if name.endswith(modulation) else value
        for name, value in tensors.items()
    }


def transform(
    block: nn.Module, rules: Iterable[WeightRule], fixture: Fixture, x: Tensor, w: Tensor | None = None
) -> Tensor:
    """A block's output for tokens x [B,N,C]; its weight rules map names after "layer." to names after "block."."""
    tensors = with_prefix(fixture.tensors | fixture.attributes, "layer.")
    weights = without_prefix(apply_rules(rules, tensors), "block.")
    y = functional_call(block, weights, (to_nchw(x[:, None]), None if w is None else w[:, None]), strict=True)
    return to_nhwc(y)[:, 0]

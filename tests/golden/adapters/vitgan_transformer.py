"""ViTGAN's self-modulated LayerNorm in its three forms, and the paper's generator block."""

from __future__ import annotations

import math

from torch import Tensor
from torch.func import functional_call

from blocks.families import to_nchw, to_nhwc
from blocks.layer.transformer import Transformer
from blocks.norm.sln import SelfModulatedLayerNorm
from blocks.weight_norm.apply import normalize_weights
from blocks.weight_norm.improved_spectral import ImprovedSpectralNorm
from tests.golden.recipe import Fixture, adapter

Outputs = dict[str, Tensor]


@adapter("vitgan", "off_sln")
def official_sln(fixture: Fixture) -> Outputs:
    dim = fixture.config["dim"]
    norm = SelfModulatedLayerNorm(dim, dim, gain_init=1.0, eps=1e-3)
    if fixture.config.get("spectral_norm"):
        normalize_weights(norm, ImprovedSpectralNorm.Spec(sigma="power-iteration"))
    tensors = {}
    for name, value in (fixture.tensors | fixture.attributes).items():
        if not name.endswith("weight_v"):  # never read
            for theirs, ours in OFFICIAL_NAMES.items():
                name = name.replace(theirs, ours)
            tensors[name] = value
    return {"y": modulate(norm, tensors, fixture.inputs["x"], fixture.inputs["w"])}


OFFICIAL_NAMES = {
    "mlp_": "",
    "multiplier": "parametrizations.weight.0.sigma_init",
    "module.weight_u": "parametrizations.weight.0.u",
    "module.weight_bar": "parametrizations.weight.original",
    "module.bias": "bias",
}


@adapter("vitgan", "paper_sln")
def paper_sln(fixture: Fixture) -> Outputs:
    config = fixture.config
    norm = SelfModulatedLayerNorm(config["dim"], config["w_dim"], eps=config["eps"])
    return {"y": modulate(norm, equalized(fixture.tensors), fixture.inputs["h"], fixture.inputs["w"])}


@adapter("vitgan", "re_sln")
def re_implemented_sln(fixture: Fixture) -> Outputs:
    dim = fixture.config["input_size"]
    norm = SelfModulatedLayerNorm(dim, dim, bias=False, affine=True, eps=1e-5)
    tensors = {name.replace("ln.", "norm."): value for name, value in fixture.tensors.items()}
    return {"y": modulate(norm, tensors, fixture.inputs["x"], fixture.inputs["w"])}


@adapter("vitgan", "paper_gblock")
def paper_block(fixture: Fixture) -> Outputs:
    config, x = fixture.config, fixture.inputs["x"]
    names = {"sln1.": "norm1.", "sln2.": "norm2.", "qkv.": "attn.qkv.", "wo.": "attn.proj.", "fc": "mlp.fc"}
    tensors = {}
    for name, value in equalized(fixture.tensors).items():
        theirs = next(theirs for theirs in names if name.startswith(theirs))
        tensors[names[theirs] + name.removeprefix(theirs)] = value
    block = Transformer(
        config["dim"],
        (1, x.shape[1]),
        config["w_dim"],
        attention={"kind": "dense", "num_heads": config["heads"], "qkv_bias": "qkv.bias" in fixture.tensors},
        norm={"kind": "sln", "eps": config["eps"]},
        feed_forward={"kind": "mlp", "mlp_ratio": (config["mlp_dim"] + 0.5) / config["dim"]},
    )
    y = functional_call(block, tensors, (to_nchw(x[:, None]), fixture.inputs["w"][:, None]), strict=True)
    return {"y": to_nhwc(y)[:, 0]}


def equalized(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of gamma and beta as an equalised linear map stores them, which divides by sqrt(in) when used."""
    modulation = ("gamma.weight", "beta.weight")
    return {
        name: value * math.sqrt(value.shape[1]) if name.endswith(modulation) else value
        for name, value in tensors.items()
    }


def modulate(norm: SelfModulatedLayerNorm, tensors: dict[str, Tensor], x: Tensor, w: Tensor) -> Tensor:
    """The norm on tokens x [B,N,C]."""
    return functional_call(norm, tensors, (x[:, None], w), strict=True)[:, 0]

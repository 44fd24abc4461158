"""ViTGAN's attention by distances: the paper's, the authors' published one, and the re-implementation's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from assemblies.conversion.weight_map import WeightRule
from assemblies.models.vitgan import architecture as vitgan
from assemblies.models.vitgan import reimplementation as vitgan_reimplementation
from assemblies.models.vitgan.parts import attention_rules, pair
from blocks.attention.dense import DenseAttention
from blocks.attention.l2 import L2Attention
from blocks.weight_norm.apply import normalize_weights
from blocks.weight_norm.improved_spectral import ImprovedSpectralNorm
from tests.golden.recipe import Fixture, adapter

Outputs = dict[str, Tensor]


@adapter("vitgan", "paper_l2")
def paper(fixture: Fixture) -> Outputs:
    config = fixture.config
    squared, sign = config["squared"], int(config["sign"])
    block = L2Attention(config["dim"], num_heads=config["heads"], squared=squared, sign=sign)
    names = {"q": "wq", "v": "wv", "proj": "wo"}
    rules = [part for ours, theirs in names.items() for part in pair(ours, theirs, bias=theirs == "wo")]
    return attended(block, rules, fixture.tensors, fixture)


@adapter("vitgan", "off_attention")
def official(fixture: Fixture) -> Outputs:
    options = vitgan.block_options(fixture.config)
    block = attention(options["attention"], fixture, fixture.config["dim"])
    if options["weight_norm"] is not None:
        normalize_weights(block, ImprovedSpectralNorm.Spec(**options["weight_norm"]))
    tensors = {f"attn.{name}": value for name, value in (fixture.tensors | fixture.attributes).items()}
    return attended(block, attention_rules("", "attn", fixture.config), tensors, fixture)


@adapter("vitgan", "re_attention")
def re_implemented(fixture: Fixture) -> Outputs:
    config, tensors = fixture.config, {}
    normalised = config.get("discriminator", False)
    block = attention(vitgan_reimplementation.l2_options(config), fixture, config["emb_size"])
    if normalised:
        normalize_weights(block, ImprovedSpectralNorm.Spec(sigma="power-iteration"))
    for name, value in (fixture.tensors | fixture.attributes).items():
        ties = config.get("tie_qk") and name.startswith("qkv.") and name.endswith(("weight_bar", "bias"))
        tensors[f"msa.{name}"] = tied(value) if ties else value
    rules = vitgan_reimplementation.attention_rules(".attn", "msa", config, normalised=normalised)
    return {"y": attended(block, rules, tensors, fixture)["y"]}


def attention(options: dict[str, Any], fixture: Fixture, dim: int) -> nn.Module:
    """The attention of these options, for a row of tokens."""
    kinds: dict[str, Any] = {"l2": L2Attention, "dense": DenseAttention}
    spec = kinds[options["kind"]].Spec.model_validate(options)
    block: nn.Module = spec.build(dim=dim, resolution=(1, fixture.inputs["x"].shape[1]))
    return block


def attended(block: Any, rules: Iterable[WeightRule], tensors: dict[str, Tensor], fixture: Fixture) -> Outputs:
    """What attention makes of tokens x [B,N,C], and its weights: what it makes of values that are one of each."""
    weights = {
        ours.removeprefix(".attn").removeprefix("."): make(*(tensors[name] for name in theirs))
        for ours, theirs, make in rules
    }
    seen: list[Tensor] = []
    attend = block.attend

    def watched(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        seen.append(attend(q, k, one_of_each(v), **options))
        y: Tensor = attend(q, k, v, **options)
        return y

    block.attend = watched
    y = functional_call(block, weights, fixture.inputs["x"][:, None], strict=True)
    return {"y": y[:, 0], "attn": seen[0]}


def tied(rows: Tensor) -> Tensor:
    """Rows in threes, query, key, value: the key's row is the query's."""
    threes = rows.unflatten(0, (-1, 3))
    return torch.stack([threes[:, 0], threes[:, 0], threes[:, 2]], 1).flatten(0, 1)


def one_of_each(v: Tensor) -> Tensor:
    """Values that turn what attention gives into its weights."""
    return torch.eye(v.shape[-2], dtype=v.dtype).expand(*v.shape[:-1], -1)

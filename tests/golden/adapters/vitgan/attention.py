"""ViTGAN's attention: the paper's, the authors' and the re-implementation's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from assemblies.conversion.weight_map import WeightRule
from assemblies.models.vitgan.official import architecture as official
from assemblies.models.vitgan.official import checkpoint as official_checkpoint
from assemblies.models.vitgan.reimplementation import architecture as reimplementation
from assemblies.models.vitgan.reimplementation import checkpoint as reimplementation_checkpoint
from assemblies.models.weight_rules import weight_and_bias
from blocks.attention.dense import DenseAttention
from blocks.attention.l2 import L2Attention
from blocks.weight_norm.apply import normalize_weights
from blocks.weight_norm.improved_spectral import ImprovedSpectralNorm
from tests.golden.adapters.networks import apply_rules, with_prefix
from tests.golden.fixtures import Fixture, Outputs, adapter, without_prefix


@adapter("vitgan", "paper_l2")
def paper(fixture: Fixture) -> Outputs:
    config = fixture.config
    squared, sign = config["squared"], int(config["sign"])
    block = L2Attention(config["dim"], num_heads=config["heads"], squared=squared, sign=sign)
    names = {"q": "wq", "v": "wv", "proj": "wo"}
    rules = [
        part
        for target, source in names.items()
        for part in weight_and_bias(f"block.{target}", f"layer.{source}", bias=f"{source}.bias" in fixture.tensors)
    ]
    return attend(block, rules, fixture.tensors, fixture)


@adapter("vitgan", "off_attention")
def of_authors(fixture: Fixture) -> Outputs:
    options = official.block_options(fixture.config)
    block = attention(options["attention"], fixture, fixture.config["dim"])
    if options["weight_norm"] is not None:
        normalize_weights(block, ImprovedSpectralNorm.Spec(**options["weight_norm"]))
    rules = official_checkpoint.attention_rules("block", "layer", fixture.config)
    return attend(block, rules, fixture.tensors | fixture.attributes, fixture)


@adapter("vitgan", "re_attention")
def reimplemented(fixture: Fixture) -> Outputs:
    config, tensors = fixture.config, {}
    spectral_norm = config.get("discriminator", False)
    block = attention(reimplementation.attention_options(config), fixture, config["emb_size"])
    if spectral_norm:
        normalize_weights(block, ImprovedSpectralNorm.Spec(sigma="power-iteration"))
    for name, value in (fixture.tensors | fixture.attributes).items():
        is_qkv = name.startswith("qkv.") and name.endswith(("weight_bar", "bias"))
        tensors[name] = tied(value) if config.get("tie_qk") and is_qkv else value
    rules = reimplementation_checkpoint.attention_rules("block", "layer", config, spectral_norm=spectral_norm)
    return {"y": attend(block, rules, tensors, fixture)["y"]}


def attention(options: dict[str, Any], fixture: Fixture, dim: int) -> nn.Module:
    """The attention of these options, for a row of tokens."""
    kinds: dict[str, Any] = {"l2": L2Attention, "dense": DenseAttention}
    spec = kinds[options["kind"]].Spec.model_validate(options)
    block: nn.Module = spec.build(dim=dim, resolution=(1, fixture.inputs["x"].shape[1]))
    return block


def attend(block: Any, rules: Iterable[WeightRule], tensors: dict[str, Tensor], fixture: Fixture) -> Outputs:
    """Output for tokens x [B,N,C], and the attention weights: the output for values that are the identity matrix."""
    weights = without_prefix(apply_rules(rules, with_prefix(tensors, "layer.")), "block.")
    attention_weights: list[Tensor] = []
    op = block.attend

    def recording_op(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        identity = torch.eye(v.shape[-2], dtype=v.dtype).expand(*v.shape[:-1], -1)
        attention_weights.append(op(q, k, identity, **options))
        y: Tensor = op(q, k, v, **options)
        return y

    block.attend = recording_op
    y = functional_call(block, weights, fixture.inputs["x"][:, None], strict=True)
    return {"y": y[:, 0], "attn": attention_weights[0]}


def tied(rows: Tensor) -> Tensor:
    """Rows in threes, query, key, value: the key's row is the query's."""
    threes = rows.unflatten(0, (-1, 3))
    return torch.stack([threes[:, 0], threes[:, 0], threes[:, 2]], 1).flatten(0, 1)

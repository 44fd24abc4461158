"""GAT's layers: norms, attention, blocks, readout, intake and head."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from assemblies.conversion.weight_map import WeightRule
from assemblies.models.gat import architecture, checkpoint
from blocks.attention.dense import DenseAttention
from blocks.attention.query_key import rotary_tables, rotate
from blocks.common.linear import SlowLinear
from blocks.common.position import sine_cosine_grid
from blocks.families import to_nchw, to_nhwc
from blocks.feed_forward.swiglu import SwiGLU
from blocks.head.class_projection import ClassProjection
from blocks.image_head.modulated_patches import ModulatedPatches
from blocks.layer.adaln_transformer import AdaLNTransformer
from blocks.layer.transformer import Transformer
from blocks.mapping.class_mapping import ClassMapping
from blocks.norm.rms_norm import RMSNorm
from blocks.projector.token_projector import TokenProjector
from blocks.stem.noise_path import add_noise, noise_levels, noise_path
from blocks.stem.noised_levels import NoisedLevels
from tests.golden.adapters.gat.networks import guidance_scale
from tests.golden.adapters.networks import apply_rules
from tests.golden.fixtures import Fixture, Outputs, adapter


@adapter("gat", "rms_norm")
def rms_norm(fixture: Fixture) -> Outputs:
    config = fixture.config
    norm = RMSNorm(config["dim"], eps=config["eps"], affine=config["elementwise_affine"]).to(fixture.dtype)
    inputs = {"y": fixture.inputs["x"], "y_small": fixture.inputs["small"]}
    return {name: functional_call(norm, fixture.tensors, x[:, None])[:, 0] for name, x in inputs.items()}


@adapter("gat", "equal_linear")
def equal_linear(fixture: Fixture) -> Outputs:
    config = fixture.config
    layer = SlowLinear(
        config["in_dim"], config["out_dim"], lr_multiplier=config["lr_mult"], bias=config.get("bias", True)
    )
    return {"y": functional_call(layer, fixture.tensors, fixture.inputs["x"])}


@adapter("gat", "swiglu")
def swiglu(fixture: Fixture) -> Outputs:
    dim, hidden_dim = fixture.config["in_features"], fixture.config["hidden_features"]
    block = SwiGLU(dim, mlp_ratio=(1.5 * hidden_dim + 1) / dim)  # two thirds of it, rounded down
    weights = apply_rules(checkpoint.feed_forward_rules("", ""), fixture.tensors)
    return {"y": functional_call(block, weights, fixture.inputs["x"][:, None])[:, 0]}


@adapter("gat", "mapping")
def mapping(fixture: Fixture) -> Outputs:
    config = fixture.config
    z, c = fixture.inputs["z"], fixture.condition(config["num_classes"], "y")
    network = ClassMapping(
        config["latent_size"], config["w_dim"], 1, config["num_classes"], w_avg_beta=config["w_avg_beta"]
    )
    weights = apply_rules(checkpoint.mapping_rules(""), fixture.tensors)
    weights["w_avg"] = weights["w_avg"].detach().clone()  # updated in place
    scale = guidance_scale(fixture, config["guidance_scale"])
    run = Mapped(network.to(fixture.dtype).train(config["update_ema"]), 1 - config["truncation_psi"], scale)
    prefixed = {f"mapping.{name}": value for name, value in weights.items()}
    w = functional_call(run, prefixed, (z, c), strict=True)
    return {"w": w, "w_avg_after": prefixed["mapping.w_avg"]}


class Mapped(nn.Module):
    """A mapping network with truncation and guidance, as the reference calls it."""

    def __init__(self, mapping: ClassMapping, psi: float, scale: Any) -> None:
        super().__init__()
        self.mapping, self.psi, self.scale = mapping, psi, scale

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        ws = self.mapping(z, c, truncation_psi=self.psi)
        if isinstance(self.scale, Tensor) or self.scale != 1:
            ws = self.mapping.guided(ws, z, self.scale)
        return ws[:, 0]


@adapter("gat", "rope")
def rope(fixture: Fixture) -> Outputs:
    config, q = fixture.config, fixture.inputs["q"]
    side, prefix = config["grid"], config["prefix"]
    tokens = q[:, :, prefix:].movedim(1, 2).unflatten(1, (side, side))  # b h w heads head_dim
    rotated = rotate(tokens, config["theta"]).flatten(1, 2).movedim(1, 2)
    tables = rotary_tables(side, side, config["head_dim"], config["theta"], q)
    cos, sin = (table.flatten(0, 2).repeat_interleave(2, dim=1) for table in tables)
    return {"y": torch.cat([q[:, :, :prefix], rotated], dim=2), "freqs_cos": cos, "freqs_sin": sin}


@adapter("gat", "attention")
def attention(fixture: Fixture) -> Outputs:
    config = fixture.config
    block = DenseAttention(
        config["dim"],
        token_map(config),
        num_heads=config["num_heads"],
        qkv_bias=config["qkv_bias"],
        qk_norm=config["qk_norm"],
        rotary=config["rope"],
        prefix_tokens=config["prefix"],
    )
    x = fixture.inputs["x"].unflatten(1, token_map(config))
    rules = [
        each
        for each in checkpoint.attention_rules("block.", "", qk_norm=config["qk_norm"])
        if each.sources[0] in fixture.tensors
    ]
    y, weights = functional_call(WithWeights(block), apply_rules(rules, fixture.tensors), x, strict=True)
    return {"y": y.flatten(1, 2), "weights": weights}


class WithWeights(nn.Module):
    """An attention block whose call also returns the weights of all pairs of tokens."""

    def __init__(self, block: DenseAttention) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q, k, _ = self.block.projected(x).flatten(1, 2).permute(2, 0, 3, 1, 4)
        return self.block(x), (q @ k.mT / math.sqrt(q.shape[-1])).softmax(dim=-1)


@adapter("gat", "generator_block")
def generator_block(fixture: Fixture) -> Outputs:
    args = fixture.config
    options = {name: value for name, value in architecture.generator_block(args).items() if name != "kind"}
    block = AdaLNTransformer(args["hidden_size"], token_map(args), args["w_dim"], **options)
    rules = checkpoint.generator_block_rules("", "", qk_norm=args["qk_norm"])
    return {"y": on_tokens(fixture, block, rules, fixture.inputs["c"][:, None])}


@adapter("gat", "discriminator_block")
def discriminator_block(fixture: Fixture) -> Outputs:
    args = fixture.config
    options = {name: value for name, value in architecture.discriminator_block(args).items() if name != "kind"}
    options["attention"]["prefix_tokens"] = args["prefix"]
    block = Transformer(args["hidden_size"], token_map(args), **options)
    return {"y": on_tokens(fixture, block, checkpoint.discriminator_block_rules("", "", qk_norm=args["qk_norm"]), None)}


@adapter("gat", "readout")
def readout(fixture: Fixture) -> Outputs:
    config = fixture.config
    block = ModulatedPatches(
        config["hidden_size"], config["w_dim"], config["out_channels"], patch_size=config["patch_size"]
    )
    weights = apply_rules(checkpoint.readout_rules("block", "", config["patch_size"]), fixture.tensors)
    x = to_nchw(fixture.inputs["x"].unflatten(1, token_map(config)))
    image = functional_call(WithName(block), weights | buffers(block), (x, fixture.inputs["c"][:, None]))
    size, side = config["patch_size"], config["grid"]
    patches = image.unflatten(3, (side, size)).unflatten(2, (side, size))  # b k row i column j
    tokens = patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    return {"image": image, "tokens": tokens}


class WithName(nn.Module):
    """Another module under the name `block`."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *args: Tensor) -> Tensor:
        y: Tensor = self.block(*args)
        return y


@adapter("gat", "position_table")
def position_table(fixture: Fixture) -> Outputs:
    side = fixture.config["grid"]
    return {"pos_embed": sine_cosine_grid(fixture.config["embed_dim"], (side, side), fixture.dtype).flatten(0, 1)[None]}


@adapter("gat", "intake")
def intake(fixture: Fixture) -> Outputs:
    config, levels = fixture.config, fixture.inputs["images"]
    side = config["input_size"]
    block = Tokens(
        NoisedLevels(
            config["in_channels"],
            (side, side),
            dim=config["hidden_size"],
            patch_size=config["patch_size"],
            num_levels=len(levels),
        )
    )
    weights = apply_rules(checkpoint.intake_rules("stem."), fixture.tensors)
    return {"tokens": functional_call(block, weights, levels)[:, :, 0].mT}


class Tokens(nn.Module):
    """The intake without noise."""

    def __init__(self, stem: NoisedLevels) -> None:
        super().__init__()
        self.stem = stem

    def forward(self, levels: Tensor) -> Tensor:
        return self.stem.tokens(levels)


@adapter("gat", "head")
def head(fixture: Fixture) -> Outputs:
    config, x = fixture.config, fixture.inputs["x_cls"]
    c = fixture.condition(config["num_classes"], "y")
    block = ClassProjection(config["hidden_size"], (1, 1), config["num_classes"], embed_dim=config["cmap_dim"])
    weights = apply_rules(checkpoint.head_rules("head."), fixture.tensors)
    logits, embedded = functional_call(WithEmbedding(block), weights, (x.mT[:, :, None], c))
    return {"logits": logits, "class_embedding": embedded}


class WithEmbedding(nn.Module):
    """A head whose call also returns the embedded condition."""

    def __init__(self, head: ClassProjection) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(x, c), self.head.embedded(c)


@adapter("gat", "projector")
def projector(fixture: Fixture) -> Outputs:
    config, x = fixture.config, fixture.inputs["x"]
    block = TokenProjector(
        config["hidden_size"], (1, x.shape[1]), dim=config["z_dim"], projector_dim=config["projector_dim"]
    )
    weights = apply_rules(checkpoint.projector_rules("", ""), fixture.tensors)
    return {"y": functional_call(block, weights, x.mT[:, :, None])}


@adapter("gat", "mng_noise")
def mng_noise(fixture: Fixture) -> Outputs:
    config, images, noise = fixture.config, fixture.inputs["images"], fixture.inputs["noise"]
    shares = noise_levels(config["levels"], config["min_info"], config["shift"])
    t = torch.tensor(shares, dtype=images.dtype, device=images.device)
    independent = add_noise(images, t.view(-1, 1, 1, 1, 1) * noise, shares)
    return {"noisy": add_noise(images, noise_path(noise, shares), shares), "t": t, "independent": independent}


def token_map(config: dict[str, Any]) -> tuple[int, int]:
    """Height and width of a map of tokens: a square grid, or one row if there are others before it."""
    side, prefix = config["grid"], config.get("prefix", 0)
    return (1, prefix + side**2) if prefix else (side, side)


def on_tokens(fixture: Fixture, block: nn.Module, rules: Iterable[WeightRule], ws: Tensor | None) -> Tensor:
    """A layer on the fixture's tokens [B,N,C]."""
    present = [each for each in rules if each.sources[0] in fixture.tensors]
    x = to_nchw(fixture.inputs["x"].unflatten(1, token_map(fixture.config)))
    y: Tensor = functional_call(block, apply_rules(present, fixture.tensors), (x, ws), strict=True)
    return to_nhwc(y).flatten(1, 2)


def buffers(block: nn.Module) -> dict[str, Tensor]:
    return {f"block.{name}": value for name, value in block.named_buffers()}

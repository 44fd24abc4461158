"""StyleNAT's norm, its attention in all forms, and the generator blocks made of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from blocks.attention.dense import DenseAttention
from blocks.attention.hydra import HydraNA
from blocks.families import Attention, to_nchw, to_nhwc
from blocks.feed_forward.mlp import MLP
from blocks.layer.transformer import Transformer
from blocks.norm.adain import AdaIN
from blocks.ops.neighborhood_attention import neighborhood_attention
from blocks.ops.neighborhood_attention.reference import window_logits
from registry import Spec
from tests.golden.adapters.networks import with_prefix
from tests.golden.fixtures import Fixture, Outputs, adapter, fill, on_device


@adapter("stylenat", "AdaptiveInstanceNorm")
def adain(fixture: Fixture) -> Outputs:
    args, x = fixture.config["args"], fixture.inputs["input"]
    norm = AdaIN(args["in_channel"], args["style_dim"])
    y = functional_call(norm, fixture.tensors, (x.mT[:, None], fixture.inputs["style"]), strict=True)
    return {"out": y[:, 0].mT}


@adapter("stylenat", "functional")
def na2d(fixture: Fixture) -> Outputs:
    outputs = {}
    for number, case in enumerate(fixture.config["cases"]):
        leaves = {name: fixture.inputs[name] for name in fixture.inputs if name.startswith(f"c{number}.")}
        q, k, v = (leaves[f"c{number}.{name}"].permute(0, 2, 3, 1, 4) for name in "qkv")
        window = {name: case[name] for name in ("kernel_size", "dilation", "scale")}
        window["bias"] = leaves.get(f"c{number}.rpb")
        out = neighborhood_attention(q, k, v, **window).permute(0, 3, 1, 2, 4)
        outputs[f"c{number}.out"] = out
        if case.get("store_logits"):
            outputs[f"c{number}.logits"] = window_logits(q, k, **window)
        # each case has gradients of its own output
        cotangent = on_device(fill(f"cotangent:c{number}.out", list(out.shape))).to(out.dtype) / out.numel()
        gradients = torch.autograd.grad(out, list(leaves.values()), cotangent)
        outputs |= {f"grad:{name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}
    return outputs


@adapter("stylenat", "HydraNeighborhoodAttention")
def hydra(fixture: Fixture) -> Outputs:
    args = fixture.config["args"]
    return attend(fixture, hydra_spec(args, args["kernel_sizes"], args["dilations"]), fixture.tensors)


@adapter("stylenat", "NeighborhoodAttentionSplitHead")
def legacy(fixture: Fixture) -> Outputs:
    args, tensors = fixture.config["args"], dict(fixture.tensors)
    windows = {(args[f"kernel_size_{half}"], args[f"dilation_{half}"]) for half in (0, 1)}
    if len(windows) == 1:  # one partition of all heads
        ((size, step),) = windows
        tensors["rpb.0"] = torch.cat([tensors.pop("rpb0"), tensors.pop("rpb1")])
        return attend(fixture, hydra_spec(args, [size], [step]), tensors)
    tensors |= {"rpb.0": tensors.pop("rpb0"), "rpb.1": tensors.pop("rpb1")}
    sizes, steps = ([args[f"{name}_{half}"] for half in (0, 1)] for name in ("kernel_size", "dilation"))
    return attend(fixture, hydra_spec(args, sizes, steps), tensors)


@adapter("stylenat", "MHSARPB")
def mhsa(fixture: Fixture) -> Outputs:
    return attend(fixture, dense_spec(fixture.config["args"]), fixture.tensors)


@adapter("stylenat", "MHSARPBLayer")
def mhsa_layer(fixture: Fixture) -> Outputs:
    return transform(fixture, dense_spec(fixture.config["args"]))


@adapter("stylenat", "NATLayer")
def nat_layer(fixture: Fixture) -> Outputs:
    args = fixture.config["args"]
    return transform(fixture, hydra_spec(args, as_list(args["kernel_size"]), as_list(args["dilation"])))


def attend(fixture: Fixture, spec: Spec, tensors: dict[str, Tensor]) -> Outputs:
    """An attention block on the fixture's x [B,H,W,C]."""
    x = fixture.inputs["x"]
    attention = WithMap(spec.build(dim=x.shape[-1], resolution=x.shape[1:3]))
    out, attention_map = functional_call(attention, with_prefix(tensors, "attention."), (x,), strict=True)
    return {"out": out, "attn_map": attention_map}


def transform(fixture: Fixture, attention: Spec) -> Outputs:
    """A transformer block on the fixture's x [B,H*W,C]."""
    args, x = fixture.config["args"], fixture.inputs["x"]
    names = {"gamma1": "scale1.gamma", "gamma2": "scale2.gamma"}
    tensors = {names.get(name, name): value for name, value in fixture.tensors.items()}
    block = Transformer(
        args["dim"],
        args["input_resolution"],
        args.get("style_dim", 512),
        attention=attention,
        norm="adain",
        feed_forward=MLP.Spec(mlp_ratio=args.get("mlp_ratio", 4)),
        layer_scale=1.0 if "gamma1" in fixture.tensors else None,
    )
    image = to_nchw(x.unflatten(1, args["input_resolution"]))
    y = functional_call(block, tensors, (image, fixture.inputs["style"][:, None]), strict=True)
    return {"out": to_nhwc(y).flatten(1, 2)}


def hydra_spec(args: dict[str, Any], kernel_sizes: list[int], dilations: list[int]) -> Spec:
    return HydraNA.Spec(kernel_sizes=kernel_sizes, dilations=dilations, **common(args))


def dense_spec(args: dict[str, Any]) -> Spec:
    return DenseAttention.Spec(relative_position_bias=True, **common(args))


def common(args: dict[str, Any]) -> dict[str, Any]:
    # dropout is recorded in eval mode, where it does nothing
    return {
        "num_heads": args["num_heads"],
        "qkv_bias": args.get("qkv_bias", True),
        "scale": args.get("qk_scale") or None,
    }


def as_list(value: int | list[int]) -> list[int]:
    return value if isinstance(value, list) else [value]


class WithMap(nn.Module):
    """An attention block whose call also returns the attention map."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.attention(x), self.attention.attention_map(x)

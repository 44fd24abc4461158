"""StyleNAT's whole networks through the importer, StyleSwin's block, and the transform between image and wavelets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from assemblies.conversion.weight_map import rule, translate
from assemblies.models.stylenat import architecture as stylenat
from blocks.common.resample import Blur2d, Downsample2d, Upsample2d
from blocks.common.wavelets import haar, inverse_haar
from blocks.families import to_nchw, to_nhwc
from blocks.layer.transformer import Transformer
from registry import second_order
from tests.golden.recipe import Fixture, adapter


@adapter("stylenat", "Generator")
def generator(fixture: Fixture) -> dict[str, Tensor]:
    args = options(fixture)
    network = stylenat.generator_spec(args).build().to(fixture.dtype).eval()
    weights = translate(
        stylenat.generator_rules(args), fixture.tensors, network, ignored=stylenat.generator_ignored
    ) | dict(network.named_buffers())
    of_synthesis = {name.removeprefix("synthesis."): value for name, value in weights.items() if "synthesis" in name}
    of_mapping = {name.removeprefix("mapping."): value for name, value in weights.items() if "mapping" in name}
    return {
        "w": functional_call(network.mapping, of_mapping, fixture.inputs["z"], strict=True)[:, 0],
        "image": functional_call(network, weights, fixture.inputs["z"], strict=True),
        "image_from_ws": functional_call(network.synthesis, of_synthesis, fixture.inputs["ws"], strict=True),
    }


@adapter("stylenat", "Discriminator")
def discriminator(fixture: Fixture) -> dict[str, Tensor]:
    args = options(fixture)
    network = stylenat.discriminator_spec(args).build(resolution=args["size"], image_channels=3).to(fixture.dtype)
    rules = stylenat.discriminator_rules(args)
    given = fixture.tensors | {
        name: value.detach().clone() for name, value in fixture.tensors.items() if name.endswith(("_u", "_v"))
    }
    weights = dict(network.named_buffers()) | translate(rules, given, network, ignored=stylenat.discriminator_ignored)
    outputs = {"logits_train": functional_call(network.train(), weights, fixture.inputs["image"], strict=True)}
    theirs = {ours: names[0] for ours, names, _ in rules}
    outputs |= {f"after_train:{theirs[name]}": value for name, value in weights.items() if name in theirs}
    image = fixture.inputs["image"].detach().requires_grad_()
    with second_order():
        outputs["logits_eval"] = functional_call(network.eval(), weights, image, strict=True)
    (gradient,) = torch.autograd.grad(outputs["logits_eval"].sum(), image, create_graph=True)
    penalty = gradient.square().sum(dim=(1, 2, 3)).mean()
    names = fixture.json["r1_grads"]
    gradients = torch.autograd.grad(penalty, [fixture.tensors[name] for name in names])
    outputs |= {f"grad_r1:{name}": gradient for name, gradient in zip(names, gradients, strict=True)}
    return outputs | {"r1_penalty": penalty[None]}


@adapter("stylenat", "StyleSwinTransformerBlock")
def swin_block(fixture: Fixture) -> dict[str, Tensor]:
    args, x = fixture.config["args"], fixture.inputs["x"]
    resolution = tuple(args["input_resolution"])
    block = Transformer(
        args["dim"],
        resolution,
        args.get("style_dim", 512),
        attention={
            "kind": "shifted-window",
            "num_heads": args["num_heads"],
            "qkv_bias": args.get("qkv_bias", True),
            "scale": args.get("qk_scale") or None,
            **stylenat.windows(min(resolution), args.get("window_size", 7)),
        },
        norm="adain",
        feed_forward={"kind": "mlp", "mlp_ratio": args.get("mlp_ratio", 4)},
        layer_scale=1.0 if "gamma1" in fixture.tensors else None,
    )
    stage = stylenat.Stage(min(resolution), args["dim"], args["num_heads"], (), ())
    rules = list(stylenat.block_rules("block", "block", stage, args | {"block_type": "swin"}))
    gammas = [name for name in fixture.tensors if name.startswith("gamma")]
    rules += [rule(f"block.{name.replace('gamma', 'scale')}.gamma", f"block.{name}") for name in gammas]
    given = {f"block.{name}": value for name, value in fixture.tensors.items()}
    found = translate(rules, given, nn.ModuleDict({"block": block}), ignored=stylenat.generator_ignored)
    weights = {name.removeprefix("block."): value for name, value in found.items()}
    image = to_nchw(x.unflatten(1, resolution))
    y = functional_call(block, weights, (image, fixture.inputs["style"][:, None]), strict=True)
    return {"out": to_nhwc(y).flatten(1, 2)}


@adapter("stylenat", "Wavelet")
def wavelets(fixture: Fixture) -> dict[str, Tensor]:
    image, coefficients = fixture.inputs["image"], fixture.inputs["coeffs"]
    down, up, blur = (each.to(fixture.dtype) for each in (Downsample2d(), Upsample2d(), Blur2d(padding=(2, 2))))
    return {
        "dwt": haar(image),
        "iwt_of_dwt": inverse_haar(haar(image)),
        "iwt": inverse_haar(coefficients),
        "down": down(image),
        "up": up(image),
        "blur_pad22": blur(image),
        "fromrgb_resample": haar(down(inverse_haar(coefficients))),
    }


def options(fixture: Fixture) -> dict[str, Any]:
    """The constructor's arguments, of which `args` holds most, in one mapping."""
    given = dict(fixture.config["args"])
    return given.pop("args") | given

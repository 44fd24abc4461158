"""StyleNAT's whole networks with the weight rules of its importer, StyleSwin's block, and the wavelet transform."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from assemblies.conversion.weight_map import rule, translate
from assemblies.models.stylenat import architecture, checkpoint
from blocks.common.images.wavelets import haar, inverse_haar
from blocks.common.resample import Blur2d, Downsample2d, Upsample2d
from blocks.families import to_nchw, to_nhwc
from blocks.layer.transformer import Transformer
from registry import second_order
from tests.golden.adapters.networks import weights_of, with_prefix
from tests.golden.fixtures import Fixture, Outputs, adapter, without_prefix


@adapter("stylenat", "Generator")
def generator(fixture: Fixture) -> Outputs:
    args = options(fixture)
    network = architecture.generator_spec(args).build().to(fixture.dtype).eval()
    weights = weights_of(network, checkpoint.generator_rules(args), fixture.tensors, checkpoint.generator_ignored)
    mapping, synthesis = without_prefix(weights, "mapping."), without_prefix(weights, "synthesis.")
    return {
        "w": functional_call(network.mapping, mapping, fixture.inputs["z"], strict=True)[:, 0],
        "image": functional_call(network, weights, fixture.inputs["z"], strict=True),
        "image_from_ws": functional_call(network.synthesis, synthesis, fixture.inputs["ws"], strict=True),
    }


@adapter("stylenat", "Discriminator")
def discriminator(fixture: Fixture) -> Outputs:
    args = options(fixture)
    network = architecture.discriminator_spec(args).build(resolution=args["size"], image_channels=3).to(fixture.dtype)
    rules = checkpoint.discriminator_rules(args)
    vectors = {  # power iterations change them in place
        name: value.detach().clone() for name, value in fixture.tensors.items() if name.endswith(("_u", "_v"))
    }
    weights = weights_of(network, rules, fixture.tensors | vectors, checkpoint.discriminator_ignored)
    outputs = {"logits_train": functional_call(network.train(), weights, fixture.inputs["image"], strict=True)}
    names = {each.target: each.sources[0] for each in rules}
    outputs |= {f"after_train:{names[name]}": value for name, value in weights.items() if name in names}
    image = fixture.inputs["image"].detach().requires_grad_()
    with second_order():
        outputs["logits_eval"] = functional_call(network.eval(), weights, image, strict=True)
    (gradient,) = torch.autograd.grad(outputs["logits_eval"].sum(), image, create_graph=True)
    penalty = gradient.square().sum(dim=(1, 2, 3)).mean()
    wanted = fixture.json["r1_grads"]
    gradients = torch.autograd.grad(penalty, [fixture.tensors[name] for name in wanted])
    outputs |= {f"grad_r1:{name}": gradient for name, gradient in zip(wanted, gradients, strict=True)}
    return outputs | {"r1_penalty": penalty[None]}


@adapter("stylenat", "StyleSwinTransformerBlock")
def swin_block(fixture: Fixture) -> Outputs:
    args, x = fixture.config["args"], fixture.inputs["x"]
    resolution = tuple(args["input_resolution"])
    block = Transformer(
        args["dim"],
        resolution,
        args.get("style_dim", 512),
        attention={
            "num_heads": args["num_heads"],
            "qkv_bias": args.get("qkv_bias", True),
            "scale": args.get("qk_scale") or None,
            **architecture.windows(min(resolution), args.get("window_size", 7)),
        },
        norm="adain",
        feed_forward={"kind": "mlp", "mlp_ratio": args.get("mlp_ratio", 4)},
        layer_scale=1.0 if "gamma1" in fixture.tensors else None,
    )
    stage = architecture.Stage(min(resolution), args["dim"], args["num_heads"], (), ())
    rules = list(checkpoint.block_rules("block", "block", stage, args | {"block_type": "swin"}))
    gammas = [name for name in fixture.tensors if name.startswith("gamma")]
    rules += [rule(f"block.{name.replace('gamma', 'scale')}.gamma", f"block.{name}") for name in gammas]
    whole = nn.ModuleDict({"block": block})
    weights = translate(rules, with_prefix(fixture.tensors, "block."), whole, ignored=checkpoint.generator_ignored)
    image = to_nchw(x.unflatten(1, resolution))
    inputs = (image, fixture.inputs["style"][:, None])
    y = functional_call(block, without_prefix(weights, "block."), inputs, strict=True)
    return {"out": to_nhwc(y).flatten(1, 2)}


@adapter("stylenat", "Wavelet")
def wavelets(fixture: Fixture) -> Outputs:
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
    """The constructor's arguments in one mapping; most are inside its argument `args`."""
    args = dict(fixture.config["args"])
    return args.pop("args") | args

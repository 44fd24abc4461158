"""StyleGAN's ops: bias_act and the modulated convolution, as StyleGAN-T and ViTGAN's published code call them."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from blocks.common.resample import fir_kernel
from blocks.ops.bias_act import bias_act
from blocks.ops.modulated_conv2d import modulated_conv2d
from tests.golden.recipe import Fixture, adapter


@adapter("stylegan_t", "bias_act")
def bias_act_calls(fixture: Fixture) -> dict[str, Tensor]:
    outputs = {}
    for name, call in fixture.config["calls"].items():
        options = {ours: call[theirs] for theirs, ours in ARGUMENTS.items() if theirs in call}
        assert not set(call) - set(ARGUMENTS) - {"use_bias"}
        bias = fixture.inputs["b"] if call.get("use_bias", True) else None
        outputs[name] = bias_act(fixture.inputs["x"], bias, **options)
    return outputs


ARGUMENTS = {"act": "activation", "alpha": "slope", "gain": "gain", "clamp": "clamp", "dim": "dim"}


@adapter("stylegan_t", "modulated_conv2d")
def modulated(fixture: Fixture) -> dict[str, Tensor]:
    return {"y": convolve(fixture, **fixture.config["args"])}


def convolve(
    fixture: Fixture,
    *,
    padding: int = 0,
    up: int = 1,
    demodulate: bool = True,
    flip_weight: bool = True,
    fused_modconv: bool | None = None,
) -> Tensor:
    """`flip_weight` is theirs: True correlates. Fused or not, the result is the same."""
    inputs = fixture.inputs
    named: dict[bool | None, str] = {None: "auto", True: "grouped", False: "scaled"}
    options: dict[str, Any] = {"padding": padding, "up": up, "demodulate": demodulate}
    y: Tensor = modulated_conv2d(
        *(inputs[name] for name in ("x", "weight", "styles")),
        filter=fir_kernel(fixture.config["resample_filter"]).to(fixture.dtype) if up > 1 else None,
        true_convolution=not flip_weight,
        kernel=named[fused_modconv],
        **options,
    )
    return y + inputs["noise"] if "noise" in inputs else y


@adapter("vitgan", "off_stylelayer")
def style_layer(fixture: Fixture) -> dict[str, Tensor]:
    config, tensors, inputs = fixture.config, fixture.tensors, fixture.inputs
    linear = tensors["conv.modulation.weight"] / math.sqrt(config["style_dim"])
    style = F.linear(inputs["w"], linear, tensors["conv.modulation.bias"] + 1)
    up = 2 if config["upsample"] else 1
    y = modulated_conv2d(
        inputs["x"],
        tensors["conv.weight"][0] / math.sqrt(config["in_channel"] * config["kernel_size"] ** 2),
        style,
        demodulate=config["demodulate"],
        up=up,
        filter=fir_kernel((1.0, 3.0, 3.0, 1.0)).to(fixture.dtype) if up > 1 else None,
        true_convolution=up > 1,
    )
    y = y + tensors["noise.weight"] * inputs["noise:noise"]
    return {"y": bias_act(y, tensors["activate.bias"], activation="lrelu")}

"""StyleGAN's ops, as StyleGAN-T calls them: bias_act and the modulated convolution."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from blocks.common.resample import fir_kernel
from blocks.ops.bias_act import bias_act
from blocks.ops.modulated_conv2d import modulated_conv2d
from tests.golden.fixtures import Fixture, Outputs, adapter


@adapter("stylegan_t", "bias_act")
def bias_act_calls(fixture: Fixture) -> Outputs:
    outputs = {}
    for name, call in fixture.config["calls"].items():
        options = {new: call[old] for old, new in ARGUMENTS.items() if old in call}
        assert not set(call) - set(ARGUMENTS) - {"use_bias"}
        bias = fixture.inputs["b"] if call.get("use_bias", True) else None
        outputs[name] = bias_act(fixture.inputs["x"], bias, **options)
    return outputs


ARGUMENTS = {"act": "activation", "alpha": "slope", "gain": "gain", "clamp": "clamp", "dim": "dim"}


@adapter("stylegan_t", "modulated_conv2d")
def modulated(fixture: Fixture) -> Outputs:
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
    """`flip_weight` is the reference's: True correlates. Its fused and unfused results are equal."""
    inputs = fixture.inputs
    kernels: dict[bool | None, str] = {None: "auto", True: "grouped", False: "scaled"}
    options: dict[str, Any] = {"padding": padding, "up": up, "demodulate": demodulate}
    y: Tensor = modulated_conv2d(
        *(inputs[name] for name in ("x", "weight", "styles")),
        filter=fir_kernel(fixture.config["resample_filter"]).to(fixture.dtype) if up > 1 else None,
        flip_kernel=not flip_weight,
        kernel=kernels[fused_modconv],
        **options,
    )
    return y + inputs["noise"] if "noise" in inputs else y

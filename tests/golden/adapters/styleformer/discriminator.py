"""Styleformer's discriminator, which is StyleGAN2-ADA's, in its three architectures."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.func import functional_call

from assemblies.models.stylegan2 import architecture, checkpoint
from blocks.head.linear import LinearHead
from tests.golden.adapters.networks import outputs_of, weights_of
from tests.golden.fixtures import Fixture, Outputs, adapter


class StyleGAN2Discriminator:
    """The reference's discriminator as a list of our blocks, with the weights of a fixture.

    Args:
        options: The reference's constructor arguments.
        tensors: Its state dict, by the reference's names.
    """

    def __init__(self, options: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        dtype = next(iter(tensors.values())).dtype
        context = architecture.discriminator_context(options)
        self.network = architecture.discriminator_spec(options).build(**context).to(dtype)
        names = architecture.reference_discriminator(options)
        self.paths = {name: f"steps.{index}" for index, name in enumerate(names)}
        rules = checkpoint.discriminator_rules(options)
        self.weights = weights_of(self.network, rules, tensors, checkpoint.is_resample_filter)

    def __call__(self, image: Tensor, c: Tensor | None = None) -> Tensor:
        return functional_call(self.network, self.weights, (image, c), strict=True)

    def with_steps(self, image: Tensor, c: Tensor | None = None) -> tuple[Tensor, dict[str, Any]]:
        """The logits, and the output of each step by the reference's names."""
        paths = dict(self.paths)
        head = self.network.get_submodule(paths["b4.head"])
        if isinstance(head, LinearHead) and head.projection is not None:
            paths["cmap"] = f"{paths['b4.head']}.projection.mapping"
        with outputs_of(self.network, paths) as outputs:
            logits = self(image, c)
        return logits, outputs


@adapter("styleformer", "Discriminator")
def discriminator(fixture: Fixture) -> Outputs:
    options = fixture.config["kwargs"]
    network = StyleGAN2Discriminator(options, fixture.tensors)
    c = fixture.condition(options.get("c_dim", 0), "c", "label") if options.get("c_dim", 0) else None
    logits, steps = network.with_steps(fixture.inputs["img"], c)
    outputs = {"logits": logits}
    if "cmap" in steps:
        outputs["cmap"] = steps["cmap"].flatten(1)
    for name, output in steps.items():
        if name.endswith("fromrgb"):  # the reference shrinks the image after a fromrgb, ours before the next
            twice = 2 * int(name.partition(".")[0][1:])
            outputs[f"block:b{twice}:img"] = output[1]
        elif name[0] == "b" and "." not in name:
            outputs[f"block:{name}:x"] = output
    if "b4.mbstd" in steps:
        conv = network.network.get_submodule(network.paths["b4.conv"])
        outputs["mbstd_channels"] = steps["b4.mbstd"][:, conv.conv.out_dim :, 0, 0]
    return outputs

"""Styleformer's discriminator, which is StyleGAN2-ADA's, in its three architectures."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from assemblies.conversion.weight_map import translate
from assemblies.models.styleformer import architecture as styleformer
from assemblies.models.stylegan2 import architecture as stylegan2
from tests.golden.recipe import Fixture, adapter


class StyleGAN2Discriminator:
    """The reference's discriminator as a list of our blocks, with the weights of a fixture.

    Args:
        options: The reference's constructor arguments.
        tensors: Its state, by the reference's names.
    """

    def __init__(self, options: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        dtype = next(iter(tensors.values())).dtype
        self.cond_dim = options.get("c_dim", 0)
        context = styleformer.discriminator_context(options)
        self.network = styleformer.discriminator_spec(options).build(**context).to(dtype)
        self.step_of = {name: index for index, name in enumerate(stylegan2.discriminator_steps(options))}
        rules = styleformer.discriminator_rules(options)
        found = translate(rules, tensors, self.network, ignored=styleformer.discriminator_ignored)
        self.weights = dict(self.network.named_buffers()) | found

    def __call__(self, image: Tensor, c: Tensor | None = None) -> Tensor:
        if c is not None and not c.is_floating_point():
            c = F.one_hot(c, self.cond_dim).to(image.dtype)
        return functional_call(self.network, self.weights, (image, c if self.cond_dim else None), strict=True)

    def recording(self, image: Tensor, c: Tensor | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Logits, and what each step gives by the reference's names."""
        seen: dict[str, Any] = {}
        hooks = [
            self.network.steps[index].register_forward_hook(
                lambda _, args, output, name=name: seen.update({name: output})
            )
            for name, index in self.step_of.items()
        ]
        logits = self(image, c)
        for hook in hooks:
            hook.remove()
        return logits, seen


@adapter("styleformer", "Discriminator")
def discriminator(fixture: Fixture) -> dict[str, Tensor]:
    network = StyleGAN2Discriminator(fixture.config["kwargs"], fixture.tensors)
    logits, seen = network.recording(fixture.inputs["img"], fixture.inputs.get("c"))
    outputs = {"logits": logits}
    for name, output in seen.items():
        if name.endswith("fromrgb"):  # the reference shrinks the image after an intake, ours before the next
            twice = 2 * int(name.partition(".")[0][1:])
            outputs[f"block:b{twice}:img"] = output[1]
        elif "." not in name:
            outputs[f"block:{name}:x"] = output
    if "b4.mbstd" in seen:
        dim = network.network.steps[network.step_of["b4.conv"]].conv.out_dim
        outputs["mbstd_channels"] = seen["b4.mbstd"][:, dim:, 0, 0]
    return outputs

"""Styleformer's discriminator, which is StyleGAN2-ADA's, in its three architectures."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from assemblies.discriminator import LayeredDiscriminator
from tests.golden.recipe import Fixture, adapter


class StyleGAN2Discriminator:
    """The reference's discriminator as a list of our blocks, with the weights of a fixture.

    Args:
        options: The reference's constructor arguments.
        tensors: Its state, by the reference's names.
    """

    def __init__(self, options: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        clamp, epilogue = options.get("conv_clamp"), options.get("epilogue_kwargs", {})
        skips = options.get("architecture", "resnet") == "skip"
        residual = "resnet" if options.get("architecture", "resnet") == "resnet" else "orig"
        resolution, self.cond_dim = options["img_resolution"], options.get("c_dim", 0)
        sizes = [resolution >> step for step in range(int(math.log2(resolution)) - 1)]  # ... 8, 4
        channels = {size: min(options["channel_base"] // size, options["channel_max"]) for size in sizes}
        assert options.get("cmap_dim") in (None, channels[4])

        steps: list[dict[str, Any]] = []
        self.step_of: dict[str, int] = {}  # name of the reference's part -> index of our step
        for size in sizes:
            if skips or size == resolution:
                self.step_of[f"b{size}.fromrgb"] = len(steps)
                steps.append({"kind": "from-rgb", "dim": channels[size], "clamp": clamp if size > 4 else None})
            if size > 4:
                self.step_of[f"b{size}"] = len(steps)
                half = channels[size // 2]
                steps.append({"kind": "residual-conv", "dim": half, "architecture": residual, "clamp": clamp})
        self.step_of["mbstd"] = len(steps)
        group, appended = epilogue.get("mbstd_group_size", 4), epilogue.get("mbstd_num_channels", 1)
        if appended:
            steps.append({"kind": "minibatch-std", "group_size": group, "num_channels": appended})
        self.step_of["b4.conv"], self.step_of["head"] = len(steps), len(steps) + 1
        steps.append({"kind": "conv", "dim": channels[4], "clamp": clamp})
        mapping = {"kind": "mapping", "num_layers": options.get("mapping_kwargs", {}).get("num_layers", 8)}
        steps.append({"kind": "linear", "hidden_dim": channels[4], "mapping": mapping})

        self.network = LayeredDiscriminator(resolution, options["img_channels"], self.cond_dim, steps=tuple(steps))
        dtype = next(iter(tensors.values())).dtype
        self.weights = {name: buffer.to(dtype) for name, buffer in self.network.named_buffers()}
        self.weights |= {self.ours(name): value for name, value in tensors.items() if "resample_filter" not in name}

    def ours(self, name: str) -> str:
        """Our name for a tensor of the reference."""
        module, _, role = name.rpartition(".")
        head = f"steps.{self.step_of['head']}"
        if module.startswith("mapping."):
            layer = module.removeprefix("mapping.").replace("fc", "layers.")
            return f"{head}.projection.mapping.{layer}.{role}"
        if module in ("b4.fc", "b4.out"):
            return f"{head}.{'hidden' if module == 'b4.fc' else 'out'}.{role}"
        if module.endswith("fromrgb") or module == "b4.conv":
            return f"steps.{self.step_of[module]}.conv.{role}"
        block, _, part = module.partition(".")
        part = {"conv0": "conv1", "conv1": "conv2"}.get(part, part)
        return f"steps.{self.step_of[block]}.{part}.{role}"

    def __call__(self, image: Tensor, c: Tensor | None = None) -> Tensor:
        if c is not None and not c.is_floating_point():
            c = F.one_hot(c, self.cond_dim).to(image.dtype)
        return functional_call(self.network, self.weights, (image, c if self.cond_dim else None), strict=True)

    def recording(self, image: Tensor, c: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits, and the features after each step by the reference's names."""
        seen: dict[str, Tensor] = {}
        hooks = [
            self.network.steps[index].register_forward_hook(
                lambda _, args, output, name=name: seen.update(
                    {name: output[0] if isinstance(output, tuple) else output}
                )
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
    outputs = {f"block:{name}:x": features for name, features in seen.items()}
    dim = network.network.steps[network.step_of["b4.conv"]].conv.out_dim
    return outputs | {"logits": logits, "mbstd_channels": seen["mbstd"][:, dim:, 0, 0]}

"""R3GAN's checkpoints: sizes from the shapes of the tensors, and every tensor converted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assemblies.conversion.importer import Conversion
from assemblies.conversion.weight_map import translate
from assemblies.models.r3gan import architecture, checkpoint

ARGS: dict[str, Any] = {
    "NoiseDimension": 6,
    "WidthPerStage": [12, 12, 8],
    "CardinalityPerStage": [3, 6, 4],
    "BlocksPerStage": [2, 1, 2],
    "ExpansionFactor": 2,
    "ConditionDimension": None,
    "ConditionEmbeddingDimension": 0,
    "KernelSize": 3,
    "ResamplingFilter": [1.0, 2.0, 1.0],
}
CONDITIONAL = ARGS | {"ConditionDimension": 5, "ConditionEmbeddingDimension": 7}


def tensors_of(network: nn.Module, rules: Any, taps: list[float], prefix: str) -> dict[str, Tensor]:
    """A checkpoint of the network: the inverse of its weight rules, and the buffers of the resampling layers."""
    state = network.state_dict()
    tensors = {}
    for target, (source,), _ in rules:
        value = torch.randn_like(state[target])
        if source.endswith("Basis.weight"):  # a depthwise convolution
            value = value[:, None]
        tensors[prefix + source] = value
    widened = torch.tensor(architecture.low_pass(taps))
    kernel = torch.outer(widened, widened) / widened.sum() ** 2
    return tensors | {f"{prefix}MainLayers.1.Layers.0.Resampler.Kernel": kernel}


def load(conversion: Conversion) -> nn.Module:
    network: nn.Module = conversion.spec.build(**conversion.context)
    state = translate(conversion.rules, conversion.tensors, network, ignored=conversion.ignored)
    network.load_state_dict(state)
    return network.eval()


@pytest.mark.parametrize("args", [ARGS, CONDITIONAL], ids=["unconditional", "conditional"])
@pytest.mark.parametrize("prefix", ["", "Model."])
@pytest.mark.parametrize("taps", [[1.0, 2.0, 1.0], [1.0, 3.0, 3.0, 1.0]], ids=str)
def test_a_generator_is_rebuilt_from_its_tensors_alone(args: dict[str, Any], prefix: str, taps: list[float]) -> None:
    spec = architecture.generator_spec(args | {"ResamplingFilter": taps})
    tensors = tensors_of(spec.build(), checkpoint.generator_rules(args), taps, prefix)
    assert checkpoint.is_generator(frozenset(tensors))
    assert not checkpoint.is_discriminator(frozenset(tensors))
    conversion = checkpoint.convert_generator(tensors, {})
    network = load(conversion)
    c = torch.eye(5)[:2] if args["ConditionDimension"] else None
    assert network(torch.randn(2, 6), c).shape == (2, 3, 16, 16)
    assert [step.kind for step in conversion.spec.synthesis] == [step.kind for step in spec.synthesis]
    images = network(torch.ones(2, 6), c), rebuilt(spec, conversion, c)
    torch.testing.assert_close(*images, rtol=1e-4, atol=1e-5)


def rebuilt(spec: Any, conversion: Conversion, c: Tensor | None) -> Tensor:
    """The images of the original spec with the same weights."""
    network = spec.build()
    network.load_state_dict(translate(conversion.rules, conversion.tensors, network, ignored=conversion.ignored))
    images: Tensor = network.eval()(torch.ones(2, 6), c)
    return images


@pytest.mark.parametrize("args", [ARGS, CONDITIONAL], ids=["unconditional", "conditional"])
def test_a_discriminator_is_rebuilt_from_its_tensors_alone(args: dict[str, Any]) -> None:
    reversed_args = args | {name: args[name][::-1] for name in args if name.endswith("PerStage")}
    spec, context = architecture.discriminator_spec(reversed_args), architecture.discriminator_context(reversed_args)
    rules = checkpoint.discriminator_rules(reversed_args)
    tensors = tensors_of(spec.build(**context), rules, args["ResamplingFilter"], "Model.")
    assert checkpoint.is_discriminator(frozenset(tensors))
    assert not checkpoint.is_generator(frozenset(tensors))
    conversion = checkpoint.convert_discriminator(tensors, {})
    assert conversion.spec == spec
    assert conversion.context == context
    c = torch.eye(5)[:2] if args["ConditionDimension"] else None
    assert load(conversion)(torch.randn(2, 3, 16, 16), c).shape == (2, 1)

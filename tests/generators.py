"""A small generator of every model, with random weights throughout."""

from __future__ import annotations

from typing import Any

import torch

from assemblies import Generator, parse, read
from assemblies.models.gat import architecture as gat
from assemblies.models.r3gan import architecture as r3gan
from registry import Spec

MINI = ("mini-stylenat", "mini-styleformer", "mini-vitgan", "mini-stylegan-t")
R3GAN: dict[str, Any] = {
    "NoiseDimension": 8,
    "WidthPerStage": [16, 8],
    "CardinalityPerStage": [4, 2],
    "BlocksPerStage": [1, 1],
    "ExpansionFactor": 2,
    "KernelSize": 3,
    "ResamplingFilter": [1, 2, 1],
    "ConditionDimension": 3,
    "ConditionEmbeddingDimension": 4,
}
GAT: dict[str, Any] = {
    "input_size": 8,
    "patch_size": 2,
    "in_channels": 3,
    "hidden_size": 16,
    "depth": 4,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "num_classes": 3,
    "qk_norm": True,
    "latent_size": 8,
}
STYLEGAN2 = {
    "kind": "layered",
    "z_dim": 8,
    "mapping": {"kind": "mapping", "num_layers": 2},
    "synthesis": [
        {"kind": "constant", "resolution": 4, "dim": 8},
        {"kind": "modulated-conv", "dim": 8},
        {"kind": "to-rgb"},
        {"kind": "modulated-conv", "dim": 8, "up": 2},
        {"kind": "modulated-conv", "dim": 8},
        {"kind": "to-rgb"},
    ],
}
MODELS = (*MINI, "stylegan2", "r3gan", "gat")


def once(spec: Spec) -> Spec:
    """The same without repetitions of layers."""
    document = spec.to_dict()
    return parse(
        document | {"synthesis": [step | {"repeat": 1} if "repeat" in step else step for step in document["synthesis"]]}
    )


def small_generator(name: str) -> Generator:
    """A generator in eval mode: a small preset, whose layers are not repeated, or one of a few channels."""
    torch.manual_seed(0)
    specs = {"r3gan": lambda: r3gan.generator_spec(R3GAN), "gat": lambda: gat.generator_spec(GAT)}
    specs |= {"stylegan2": lambda: parse(STYLEGAN2)}
    generator: Generator = (specs[name]() if name in specs else once(read(name).generator)).build()
    with torch.no_grad():
        for parameter in generator.parameters():  # some are zero at first
            parameter.add_(torch.randn_like(parameter), alpha=0.02 if name in MINI else 0.3)
    return generator.eval()

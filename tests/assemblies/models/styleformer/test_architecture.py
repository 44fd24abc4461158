"""Styleformer's networks at options that the recordings and presets do not have."""

from __future__ import annotations

import pytest
import torch

from assemblies.models.styleformer import architecture
from registry import IncompatibleError


@pytest.mark.parametrize(
    ("num_layers", "widths", "depth", "c_dim", "parameters"),
    [
        ([1, 2, 2], [256, 64, 16], 32, 0, 1_334_142),
        ([1, 3, 3], [256, 64, 16], 32, 0, 1_438_064),
        ([1, 3, 3], [1024, 512, 512], 32, 10, 18_636_816),
    ],
)
def test_generators_have_the_parameters_of_the_reference(
    num_layers: list[int], widths: list[int], depth: int, c_dim: int, parameters: int
) -> None:
    synthesis = {"depth": depth, "minimum_head": 1, "num_layers": num_layers, "G_dict": widths, "linformer": False}
    synthesis |= {"conv_clamp": 256, "channel_base": 16384, "channel_max": 512, "num_fp16_res": 4}
    args = {"z_dim": 512, "c_dim": c_dim, "w_dim": 512, "img_resolution": 32, "img_channels": 3}
    args |= {"mapping_kwargs": {"num_layers": 2}, "synthesis_kwargs": synthesis}
    with torch.device("meta"):
        network = architecture.generator_spec(args).build()
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_linformer_starts_at_the_given_resolution() -> None:
    steps = architecture.synthesis_steps(8, (32, 16, 8), (1, 1, 1), rank=20, linformer_from=16)
    ranks = {name: step["rank"] for name, step in steps.items() if name.endswith(".enc")}
    assert ranks == {"b8_0.enc": None, "b16_0.enc": 20, "b32_0.enc": 20}


def test_resolutions_have_to_end_at_the_images() -> None:
    synthesis = {"depth": 4, "minimum_head": 1, "num_layers": [1, 1], "G_dict": [8], "conv_clamp": 256}
    args = {"z_dim": 8, "w_dim": 8, "img_resolution": 24, "img_channels": 3, "synthesis_kwargs": synthesis}
    message = r"synthesis_kwargs.G_dict +1 widths for the 2 resolutions of num_layers"
    with pytest.raises(IncompatibleError, match=message):
        architecture.generator_spec(args)
    args |= {"img_resolution": 25, "synthesis_kwargs": synthesis | {"G_dict": [8, 8]}}
    message = r"num_layers +2 resolutions, each twice the previous one, cannot end at 25"
    with pytest.raises(IncompatibleError, match=message):
        architecture.generator_spec(args)

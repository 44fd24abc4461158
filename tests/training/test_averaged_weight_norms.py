"""Weight norms of the averaged generator: converged in model files and samples, untouched in checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from assemblies import load_model
from blocks.weight_norm.improved_spectral import ImprovedSpectralNorm
from ganblocks import train
from tests import tiny

QUIET: dict[str, Any] = {"log_every_kimg": 0.016, "save_every_seconds": 0, "quiet": True, "workers": 0}
NORMS = ["spectral-norm", {"kind": "improved-spectral-norm", "sigma": "tracked"}]


def document(weight_norm: Any) -> dict[str, Any]:
    """A GAN whose generator has normalised weights that change much in each step."""
    synthesis = [dict(step) for step in tiny.GENERATOR["synthesis"]]
    synthesis[1]["weight_norm"] = synthesis[4]["weight_norm"] = weight_norm
    return tiny.gan(
        generator=tiny.GENERATOR | {"synthesis": synthesis},
        generator_optimizer={"lr": 0.05},
        ema={"half_life_kimg": 0.05, "ramp_up": None},
        regularizers=[],
        kimg=0.096,
    )


def sigmas(network: nn.Module) -> Tensor:
    """Largest singular value of each normalised weight over the one that its norm should give it."""
    values = []
    for layer in network.modules():
        if parametrize.is_parametrized(layer, "weight"):
            norm = layer.parametrizations.weight[0]
            target = norm.sigma_init if isinstance(norm, ImprovedSpectralNorm) else 1.0
            values.append(torch.linalg.svdvals(layer.weight.detach())[0] / target)
    return torch.stack(values)


@pytest.mark.parametrize("weight_norm", NORMS, ids=["spectral", "improved"])
def test_model_files_have_converged_norms_and_checkpoints_those_of_training(weight_norm: Any, tmp_path: Path) -> None:
    run = train(document(weight_norm), "digits", tmp_path / "whole", **QUIET)
    for generator in (run.generator, load_model(tmp_path / "whole" / "model.safetensors")):
        torch.testing.assert_close(sigmas(generator), torch.ones_like(sigmas(generator)), rtol=1e-4, atol=0)
    checkpoint = load_file(tmp_path / "whole" / "checkpoint.safetensors")
    vectors = [name for name in checkpoint if name.startswith("average.") and name.endswith(".weight.0.u")]
    assert vectors
    for name in vectors:  # the buffers of the live network, as without any sample or model file
        assert torch.equal(checkpoint[name], checkpoint[name.replace("average.", "gan.generator.")])


def test_resuming_a_training_with_normalised_weights_is_exact(tmp_path: Path) -> None:
    train(document("spectral-norm"), "digits", tmp_path / "whole", **QUIET)
    train(document("spectral-norm"), "digits", tmp_path / "parts", **QUIET | {"kimg": 0.048})
    train(None, None, tmp_path / "parts", kimg=0.096, resume=True, **QUIET)
    whole, parts = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "parts"))
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []

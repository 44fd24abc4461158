"""Computed buffers: recomputed by `reset_buffers` after a module was built on the meta device and loaded."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from assemblies import parse
from assemblies.model_file import load_tensors, read_tensors, save_model
from blocks.common.computed_buffer import computed_buffer, reset_buffers
from blocks.common.position import LearnedFourier, SinusoidalGrid
from blocks.common.pretrained.frozen_module import FrozenModule
from blocks.common.resample import Upsample2d
from registry import catalogue
from registry.testing.cases import cases
from tests.tensors import normal


class Ramp(nn.Module):
    """One computed buffer, in the default dtype, and one parameter."""

    def __init__(self) -> None:
        super().__init__()
        computed_buffer(self, "ramp", torch.linspace, 0, 1, 4)
        self.weight = nn.Parameter(torch.ones(4))


def emptied(module: nn.Module) -> nn.Module:
    """The module after `to_empty`, its memory filled with NaN."""
    module.to_empty(device="cpu")
    for value in (*module.parameters(), *module.buffers()):
        value.data.fill_(torch.nan)
    return module


def test_an_upsampling_module_built_on_meta_computes_what_a_normal_one_does() -> None:
    x = normal(1, 2, 4, 4, dtype=torch.float32)
    with torch.device("meta"):
        upsample = Upsample2d()
    emptied(upsample)
    assert upsample(x).isnan().all()
    reset_buffers(upsample)
    assert torch.equal(upsample(x), Upsample2d()(x))


def test_a_loaded_module_computes_what_the_saved_one_does() -> None:
    saved = nn.Sequential(LearnedFourier(6, (3, 5)), SinusoidalGrid(8, (3, 5)))
    with torch.device("meta"):
        module = nn.Sequential(LearnedFourier(6, (3, 5)), SinusoidalGrid(8, (3, 5)))
    emptied(module).load_state_dict(saved.state_dict(), strict=True)
    reset_buffers(module)
    for part, expected in zip(module, saved, strict=True):
        assert torch.equal(part(), expected())


def test_buffers_that_are_still_on_meta_are_put_on_the_cpu() -> None:
    with torch.device("meta"):
        module = Ramp()
    module.load_state_dict({"weight": torch.ones(4)}, assign=True)
    reset_buffers(module)
    assert torch.equal(module.ramp, torch.linspace(0, 1, 4))
    assert module.state_dict().keys() == {"weight"}


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_values_and_the_dtype_are_those_of_the_original(default: torch.dtype, dtype: torch.dtype) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        module = Ramp().to(dtype)
    finally:
        torch.set_default_dtype(before)
    expected = module.ramp.clone()
    module.ramp.fill_(torch.nan)
    with torch.device("meta"):
        reset_buffers(module)
    assert module.ramp.dtype == dtype
    assert torch.equal(module.ramp, expected)


def test_copies_and_pickles_can_be_reset() -> None:
    for module in (copy.deepcopy(Ramp()), pickle.loads(pickle.dumps(Ramp()))):
        module.ramp.fill_(torch.nan)
        reset_buffers(module)
        assert torch.equal(module.ramp, torch.linspace(0, 1, 4))


def test_every_buffer_of_a_block_is_in_the_state_dict_or_can_be_recomputed() -> None:
    lost = set()
    for entry in catalogue.entries():
        for case in cases(entry.block):
            with torch.device("meta"):
                module = case.build()
            for part in module.modules():
                computed = part.__dict__.get("_computed_buffers", {})
                names = part._non_persistent_buffers_set - set(computed)
                if not hasattr(part, "init_non_persistent_buffers"):
                    lost |= {f"{case}: {type(part).__name__}.{name}" for name in names}
    assert not lost


def test_a_frozen_network_built_on_meta_cannot_be_moved_to_a_device() -> None:
    with torch.device("meta"):
        module = FrozenModule(nn.Linear(2, 2), {})
    with pytest.raises(RuntimeError, match="has no weights, and a state dict has none for it"):
        module.to_empty(device="cpu")


def test_a_model_built_on_meta_and_loaded_from_a_file_generates_the_same_images(tmp_path: Path) -> None:
    synthesis = [
        {"kind": "learned-tokens", "resolution": 4, "dim": 8},
        {"kind": "upsample-linear", "dim": 8},
        {"kind": "modulated-conv", "dim": 8, "up": 2},
        {"kind": "to-rgb"},
    ]
    spec = parse({"kind": "layered", "z_dim": 8, "synthesis": synthesis})
    original = spec.build().eval()
    save_model(tmp_path / "model.safetensors", original)
    with torch.device("meta"):
        loaded = spec.build().eval()
    load_tensors(emptied(loaded), read_tensors(tmp_path / "model.safetensors")[0], "model.safetensors")
    z = normal(2, 8, dtype=torch.float32)
    assert torch.equal(loaded(z), original(z))

"""Class-conditional Styleformer pickles: both networks compute the recorded outputs after conversion."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional as F

from assemblies.conversion.read import import_network
from blocks.common.noise import noise_mode
from tests.assemblies.checkpoint_files import fixture, state_of, write_persistent
from tests.golden.fixtures import relative_error


def test_conditional_networks_of_a_pickle_compute_the_recorded_outputs(tmp_path: Path) -> None:
    generator, discriminator = fixture("styleformer/gen32_cond"), fixture("styleformer/disc16_cond_default_map")
    networks = {
        "G_ema": (state_of(generator), generator.config["kwargs"]),
        "D": (state_of(discriminator), discriminator.config["kwargs"]),
    }
    path = tmp_path / "network-snapshot-000100.pkl"
    write_persistent(path, networks, "raise SystemExit('was run')")
    with torch.no_grad(), noise_mode("const"):
        network = import_network(path).build()
        c = F.one_hot(generator.inputs["label"], generator.config["kwargs"]["c_dim"]).float()
        assert relative_error(network(generator.inputs["z"], c), generator.expected["img"]) <= 2e-5
        network = import_network(path, role="D").build()
        c = F.one_hot(discriminator.inputs["label"], discriminator.config["kwargs"]["c_dim"]).float()
        assert relative_error(network(discriminator.inputs["img"], c), discriminator.expected["logits"]) <= 2e-5

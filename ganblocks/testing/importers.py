"""Checks of importers of published checkpoints."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from unittest import SkipTest

import torch
from safetensors.torch import save

from assemblies import CheckpointError
from assemblies.conversion.read import ROLES, import_network
from assemblies.generator import Generator
from registry import SpecError


def declares_its_options(name: str, importer: Any) -> None:
    """Each option has a description, roles are G_ema, G or D, and files of other layouts are not recognised."""
    for option, description in importer.options.items():
        assert description.strip(), f"its option {option} has no description"
    assert set(importer.roles) <= {*ROLES}, f"its roles are {', '.join(importer.roles)}; valid: {', '.join(ROLES)}"
    assert importer.roles, f"has no roles; give some of {', '.join(ROLES)}"
    for names in (frozenset[str](), frozenset({"another.weight"})):
        assert not importer.recognises(names), f"recognises tensors of another layout: {sorted(names)}"


def converts_its_example(name: str, importer: Any) -> None:
    """The checkpoint of its attribute `example` is converted to a network whose outputs are finite.

    `example` is a function that returns tensors by name, and the values of options.
    """
    if (example := getattr(importer, "example", None)) is None:
        raise SkipTest("declares no example, a function that returns tensors and options of a small checkpoint")
    tensors, options = example()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.safetensors"
        path.write_bytes(save({key: value.contiguous() for key, value in tensors.items()}))
        try:
            imported = import_network(path, options=options)
        except (CheckpointError, SpecError) as error:
            raise AssertionError(str(error)) from None
    assert imported.form == name, f"its example is recognised by the importer {imported.form!r}"
    network = imported.build()
    if isinstance(network, Generator):
        c = torch.zeros(1, network.cond_dim) if network.cond_dim else None
        assert network(torch.randn(1, network.z_dim), c).isfinite().all(), (
            "the converted generator gives no finite image"
        )

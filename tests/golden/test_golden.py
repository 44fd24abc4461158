"""Our blocks compute what the reference implementations computed: outputs and gradients, in float64 and float32."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path

import pytest
import torch

from tests.golden import adapters
from tests.golden.recipe import ADAPTERS, Fixture, relative_error

for module in pkgutil.iter_modules(adapters.__path__):
    import_module(f"{adapters.__name__}.{module.name}")

# relative to each array's largest magnitude: (outputs, gradients)
TOLERANCE = {torch.float64: (1e-6, 1e-6), torch.float32: (2e-5, 1e-4)}
# what rounding intermediate results of a float64 run to float32, and nothing else, does to a recording's gradients:
# 0.9e-4 and, with exact convolutions, 1.3e-4; which of the many roundings one gets depends on processor and threads
ROUNDED = {"styleformer/r1_16": 2e-4}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])
def test_blocks_reproduce_the_recording(golden_folder: Path, dtype: torch.dtype) -> None:
    fixture = Fixture(golden_folder, dtype)
    of_outputs, of_gradients = TOLERANCE[dtype]
    if dtype == torch.float32:
        of_gradients = ROUNDED.get(f"{fixture.model}/{golden_folder.name}", of_gradients)
    adapt = ADAPTERS.get((fixture.model, fixture.kind))
    assert adapt is not None, f"no adapter for {fixture.model} fixtures of kind {fixture.kind!r}"
    outputs = adapt(fixture)
    missing = [name for name in fixture.expected if not name.startswith("grad") and name not in outputs]
    assert not missing, f"the adapter does not give {missing}"
    found = outputs | fixture.gradients(outputs)
    wrong = {}
    for name, expected in fixture.expected.items():
        base, _, first = name.partition("[:")
        actual = found[base][: int(first.rstrip("]"))] if first else found[base]
        bound = of_gradients if name.startswith("grad") else of_outputs
        if not (error := relative_error(actual, expected)) <= bound:
            wrong[name] = f"{error:.1e} > {bound:.0e}"
    assert not wrong

"""Our blocks compute what the reference implementations computed: outputs and gradients, in float64 and float32."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path

import pytest
import torch

from tests.golden import adapters
from tests.golden.fixtures import ADAPTERS, Fixture, relative_error

for module in pkgutil.walk_packages(adapters.__path__, f"{adapters.__name__}."):
    import_module(module.name)

pytestmark = pytest.mark.usefixtures("default_device")
# relative to each array's largest magnitude: (outputs, gradients)
TOLERANCE = {torch.float64: (1e-6, 1e-6), torch.float32: (2e-5, 1e-4)}
# Rounding the intermediate results of a float64 run to float32 changes the recorded gradients by 0.9e-4, with exact
# convolutions by 1.3e-4. Which roundings happen depends on the processor and the number of threads.
ROUNDED = {"styleformer/r1_16": 2e-4}
# The sines of a demodulated SIREN have arguments of about 30, so the reference's own float32 results differ from its
# float64 results by up to 3e-4.
DEMODULATED_SIREN = (5e-4, 5e-4)
# A finite difference divides the rounding errors of two logits by its small step: the reference's own float32 misses
# these penalties by 1e-3 and their gradients by 3e-4.
SMALL_STEP, OF_SMALL_STEPS = 0.01, (5e-3, 2e-3)


def tolerance(fixture: Fixture) -> tuple[float, float]:
    """Bounds of the relative errors of outputs and of gradients."""
    of_outputs, of_gradients = TOLERANCE[fixture.dtype]
    if fixture.dtype == torch.float64:
        return of_outputs, of_gradients
    if fixture.config.get("arch", {}).get("demodulation"):
        return DEMODULATED_SIREN
    if fixture.config.get("approximate", True) and fixture.config.get("noise_std", 1) <= SMALL_STEP:
        return OF_SMALL_STEPS
    return of_outputs, ROUNDED.get(f"{fixture.model}/{fixture.folder.name}", of_gradients)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])
def test_blocks_reproduce_the_recorded_outputs(golden_folder: Path, dtype: torch.dtype) -> None:
    fixture = Fixture(golden_folder, dtype)
    of_outputs, of_gradients = tolerance(fixture)
    compute = ADAPTERS.get((fixture.model, fixture.kind))
    assert compute is not None, f"no adapter for {fixture.model} fixtures of kind {fixture.kind!r}"
    outputs = compute(fixture)
    missing = [name for name in fixture.expected if not name.startswith("grad") and name not in outputs]
    assert not missing, f"the adapter does not compute {missing}"
    results = outputs | fixture.gradients(outputs)
    failures = {}
    for name, expected in fixture.expected.items():
        base, _, rows = name.partition("[:")
        actual = results[base][: int(rows.rstrip("]"))] if rows else results[base]
        bound = of_gradients if name.startswith("grad") else of_outputs
        if not (error := relative_error(actual, expected)) <= bound:
            failures[name] = f"{error:.1e} > {bound:.0e}"
    assert not failures

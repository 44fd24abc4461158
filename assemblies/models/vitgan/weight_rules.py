"""Weight rules that the authors' files and the re-implementation's share.

Improved spectral norm multiplies a weight by the largest singular value that it had at the start of training, and
neither code saves this value in a state dict. The option `sigma_init` selects a value:

- "recorded": the value beside the tensors, in networks that were pickled whole.
- "expected": the value that newly initialised weights have on average.
- "current": the largest singular value of the weight as it is now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from assemblies.conversion.weight_map import WeightRule, rule
from assemblies.models.options import Options
from assemblies.models.weight_rules import flatten_kernel
from blocks.weight_norm.improved_spectral import largest_singular_value
from registry import incompatible
from registry.errors import nearest

SIGMAS = ("recorded", "expected", "current")
SIGMA_OPTION = "Initial largest singular values of the weights: expected, current or recorded."
SIGMA_NOTE = (
    "the file has no initial largest singular values, which improved spectral norm multiplies by; used: {used} "
    "(--set sigma_init={other}: {instead})"
)
CURRENT = "those of the present weights"


def sigma_note(sigma_init: str, expected: str) -> str:
    """The note on the choice of `sigma_init`; `expected` describes the expected values."""
    meanings = {"expected": expected, "current": CURRENT}
    other = "current" if sigma_init == "expected" else "expected"
    return SIGMA_NOTE.format(used=meanings.get(sigma_init, sigma_init), other=other, instead=meanings[other])


def spectral_norm_rules(
    target: str, source: str, recorded: str, args: Options, expected: Callable[[Tensor], Tensor]
) -> Iterator[WeightRule]:
    """A weight under improved spectral norm, with its initial largest singular value.

    Args:
        target: Name of the layer here.
        source: Name of the layer in the checkpoint.
        recorded: Name of the recorded value.
        args: Options of the network, of which `sigma_init` is read; "recorded" by default.
        expected: Computes the expected value from the weight.

    Raises:
        IncompatibleError: `sigma_init` has another value.
    """
    sigma_init = args.get("sigma_init", "recorded")
    if sigma_init not in SIGMAS:
        raise incompatible("sigma_init", f"unknown value {sigma_init!r}; {nearest(str(sigma_init), SIGMAS)}")
    parametrization, weight = f"{target}.parametrizations.weight", f"{source}.module.weight_bar"
    yield rule(f"{parametrization}.original", weight)
    yield rule(f"{parametrization}.0.u", f"{source}.module.weight_u")
    if sigma_init == "recorded":
        yield rule(f"{parametrization}.0.sigma_init", recorded)
    else:
        convert = expected if sigma_init == "expected" else current_sigma
        yield rule(f"{parametrization}.0.sigma_init", weight, convert=convert)


def current_sigma(weight: Tensor) -> Tensor:
    """The largest singular value that the weight has now."""
    return largest_singular_value(weight.detach().flatten(1))


def fourier_rules(target: str, source: str) -> Iterator[WeightRule]:
    """Fourier features of coordinates."""
    yield rule(f"{target}.linear.weight", f"{source}.weight", convert=flatten_kernel)
    yield rule(f"{target}.linear.bias", f"{source}.bias")

"""Building a network from a fixture's tensors, and reading the outputs of its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from assemblies.conversion.weight_map import WeightRule, translate
from tests.golden.fixtures import Fixture


def weights_of(
    network: nn.Module, rules: Iterable[WeightRule], tensors: Mapping[str, Tensor], ignored: Callable[[str], bool]
) -> dict[str, Tensor]:
    """Our state dict from the reference's tensors, and the buffers that no state dict has."""
    buffers = dict(network.named_buffers())
    return buffers | translate(rules, tensors, network, ignored=ignored)


def apply_rules(rules: Iterable[WeightRule], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The targets of weight rules, for parts of a network."""
    return {target: convert(*(tensors[name] for name in sources)) for target, sources, convert in rules}


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in tensors.items()}


def build(spec: Any, fixture: Fixture, **context: Any) -> nn.Module:
    """The block of a spec in the fixture's dtype, in eval mode."""
    network: nn.Module = spec.build(**context)
    return network.to(fixture.dtype).eval()


@contextmanager
def outputs_of(network: nn.Module, modules: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Record the last output of some modules.

    Args:
        network: The network that contains the modules.
        modules: Paths of the modules, by the names that the outputs get.
    """
    outputs: dict[str, Any] = {}

    def hook(name: str) -> Any:
        return lambda module, args, output: outputs.update({name: output})

    hooks = [network.get_submodule(path).register_forward_hook(hook(name)) for name, path in modules.items()]
    try:
        yield outputs
    finally:
        for each in hooks:
            each.remove()

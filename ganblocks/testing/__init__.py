"""Conformance of plugins: checks of everything that a package registers.

    pytest --ganblocks-plugin spiral

runs them on an installed plugin. A test file runs them too:

    @pytest.mark.parametrize("check", plugin_checks("spiral"), ids=str)
    def test_the_plugin_conforms(check):
        check()

Blocks are checked by the contract of their family (`registry.testing`), kernels against the reference kernel of their
op, presets by building them and one training step, importers by the checkpoint that they declare as an example, and
commands by their help. The project's own blocks, kernels and metrics are tested by the same checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class PluginCheck(Protocol):
    """One check: call it to run it; its text is its name."""

    @property
    def function(self) -> Callable[..., None]:
        """The check itself, whose docstring says what must hold."""

    def __call__(self) -> None: ...


def plugin_checks(name: str) -> list[PluginCheck]:
    """All checks of an installed plugin.

    Args:
        name: The name of its entry point in the group `ganblocks`, or of its distribution.

    Raises:
        UsageError: No such plugin is installed, or it cannot be imported.
    """
    from ganblocks.testing.collect import collect  # imports torch

    return collect(name)

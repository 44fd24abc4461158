"""The option `--ganblocks-plugin NAME` of pytest, which adds the conformance checks of a plugin to the tests.

pytest imports this file at each start, so that it imports neither torch nor the packages of this project.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

import pytest

if TYPE_CHECKING:
    from ganblocks.testing import PluginCheck

NOT_OF_PLUGINS = {"assemblies", "blocks", "ganblocks", "pluggy", "pydantic", "pytest", "_pytest", "registry", "torch"}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ganblocks")
    group.addoption(
        "--ganblocks-plugin",
        action="append",
        default=[],
        metavar="NAME",
        help="check all that this plugin of ganblocks registers; repeat for more plugins",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    for name in session.config.getoption("--ganblocks-plugin"):
        items.extend(Conformance.from_parent(session, name=f"ganblocks-plugin:{name}", plugin=name).collect())


class Conformance(pytest.Collector):
    """The checks of one plugin."""

    def __init__(self, *, plugin: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plugin = plugin

    def collect(self) -> Iterator[pytest.Item]:
        from ganblocks.errors import UsageError
        from ganblocks.testing import plugin_checks

        try:
            checks = plugin_checks(self.plugin)
        except UsageError as error:
            raise pytest.UsageError(f"--ganblocks-plugin: {error}") from None
        for check in checks:
            yield ConformanceItem.from_parent(self, name=str(check), check=check)


class ConformanceItem(pytest.Item):
    """One check as a test."""

    def __init__(self, *, check: PluginCheck, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.check = check

    def runtest(self) -> None:
        try:
            self.check()
        except SkipTest as reason:
            pytest.skip(str(reason))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        """What is wrong, what must hold, and the innermost line of the plugin's code; no traceback of the check."""
        error = excinfo.value
        message = (
            str(error).partition("\nassert ")[0]
            if isinstance(error, AssertionError)
            else f"{type(error).__name__}: {error}"
        )
        rule = " ".join((self.check.function.__doc__ or "").split("\n\n")[0].split())
        frames = [each for each in excinfo.traceback if _top(each) not in NOT_OF_PLUGINS]
        place = f"\n  at {frames[-1].path}:{frames[-1].lineno + 1}" if frames else ""
        return f"{message}\n  must hold: {rule}{place}"

    def reportinfo(self) -> tuple[str, None, str]:
        return "ganblocks-plugin", None, self.name


def _top(entry: Any) -> str:
    """The package of the code of a traceback's entry."""
    return str(entry.frame.f_globals.get("__name__", "")).partition(".")[0]

"""Modules of this folder are imported with the device of `--device` as torch's default: their cases lie there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.conftest import absent


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    name = collector.config.getoption("--device")
    if name == "cpu" or absent(name):
        return (yield)
    with torch.device(name):
        return (yield)

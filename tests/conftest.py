"""The option `--device`: tests with the fixtures `device` or `default_device` run there; the marker `gpu` selects them.

`pytest -m gpu --device cuda` runs every test that needs or can use a GPU, which is what `make gpu-test` does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ganblocks.precision import tf32

LONGEST = (  # first, so that no process waits for another at the end
    "test_every_block_of_the_readme_runs",
    "test_the_digit_score_is_at_most_2_percent_of_the_untrained_one",
    "test_whole_models_are_measured_in_separate_processes",
    "test_runs_survive_kills_at_any_time",
    "test_mutated_specs_are_used_or_refused",
)
NO_GPU = "needs a CUDA device, and there is none"

for accelerator in (torch.cuda, torch.mtia, torch.xpu):
    if not accelerator.is_available():  # torch.manual_seed would format the stack three times: a third of short tests
        accelerator.manual_seed_all = lambda seed: None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="device of the tests that can run on each: cpu (default) or cuda")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    name = config.getoption("--device")
    for item in items:
        if name != "cpu" and "device" in getattr(item, "fixturenames", ()):
            item.add_marker("gpu")
        if item.get_closest_marker("gpu") and absent("cuda" if name == "cpu" else name):
            item.add_marker(pytest.mark.skip(reason=NO_GPU))
    items.sort(key=lambda item: getattr(item, "originalname", "") not in LONGEST)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave out the rendering of loss curves, most of a short training; one is rendered in test_train.py."""
    if loss_curves := sys.modules.get("ganblocks.training.logs.loss_curves"):
        loss_curves.save_figure = lambda figure, path, metadata=None: Path(path).touch()


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """The device of the option `--device`, which computes products in full float32."""
    device = torch.device(request.config.getoption("--device"))
    with tf32(False, device):
        yield device


@pytest.fixture
def default_device(device: torch.device) -> Iterator[None]:
    """Makes `device` torch's default device, which torch.compile cannot trace everywhere."""
    if device == torch.device("cpu"):
        yield
        return
    with device:
        yield


def absent(name: str) -> bool:
    """Whether this machine has no such device."""
    return torch.device(name).type == "cuda" and not torch.cuda.is_available()

"""Options that a user sets for a conversion: a wrong value is an error with a reason."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from assemblies import CheckpointError
from assemblies.conversion.read import import_network
from ganblocks.conversion import convert
from ganblocks.worker import run_in_worker
from registry import SpecError, catalogue
from tests.assemblies.checkpoint_files import fixture, state_of
from tests.assemblies.conversion.test_convert import STYLEGAN2, STYLENAT, stylegan2_state

WRONG: list[Any] = [0, -1, 3, 7.5, 2**40, 10**30, float("nan"), True, None, "", "x", [], [0], [[]], [[0]], {}, {"a": 1}]


def state(name: str, **computed: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return state_of(fixture(name), **computed)


FILES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "stylenat generator": ("stylenat/generator-32", {"dilations": [[1], [1], [1, 2], [1, 4]]}),
    "stylenat discriminator": ("stylenat/discriminator-32-sn", {}),
    "vitgan generator": ("vitgan/off-generator-inr-32", {"heads": 3}),
    "vitgan discriminator": ("vitgan/off-discriminator-32", {}),
    "vitgan re-implementation's generator": ("vitgan/re-generator-16", {}),
    "vitgan re-implementation's discriminator": ("vitgan/re-discriminator-16", {}),
    "styleformer generator": ("styleformer/gen32", {}),
    "stylegan-t generator": ("stylegan_t/generator_uncond", {"gn_groups": 4}),
    "stylegan-t discriminator": ("stylegan_t/discriminator_cond", {"num_heads": 3, "img_resolution": 32}),
    "stylegan2 generator": ("", STYLEGAN2),
    "gat generator": ("gat/generator-8", {}),
    "stylegan2 discriminator": ("styleformer/disc16_resnet", {}),
}


def unexpected(path: Path, options: list[dict[str, Any]]) -> list[str]:
    """Errors of other kinds than those that commands print."""
    errors = []
    for option in options:
        try:
            import_network(path, None, option)
        except (CheckpointError, SpecError):
            pass
        except Exception as error:
            errors.append(f"{option}: {type(error).__name__}: {error}")
    return errors


def test_every_layout_with_options_is_tested() -> None:
    assert {importer.form for importer in catalogue.importers() if importer.options} <= set(FILES)


@pytest.mark.parametrize("form", FILES)
def test_wrong_values_are_errors_with_a_reason(tmp_path: Path, form: str) -> None:
    recording, needed = FILES[form]
    tensors = state(recording, **STYLENAT) if recording else stylegan2_state()
    torch.save(tensors, tmp_path / "x.pt")
    (importer,) = [importer for importer in catalogue.importers() if importer.form == form]
    own = {name: value for name, value in needed.items() if name in importer.options}
    options = [own | {name: value} for name in importer.options for value in WRONG]
    assert run_in_worker(unexpected, (tmp_path / "x.pt", options), form, memory=2**31, seconds=300) == []


def test_a_wrong_value_is_named(tmp_path: Path) -> None:
    torch.save(state("vitgan/off-generator-conv-32"), tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"x.pt .vitgan generator. cannot be converted with heads=0; check them"):
        convert(tmp_path / "x.pt", tmp_path / "y.safetensors", settings=["heads=0"])
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_many_large_views_of_few_numbers_are_refused(tmp_path: Path) -> None:
    tensors = state("vitgan/off-discriminator-32")
    shared = torch.zeros(10_000_000)
    torch.save(tensors | {f"extra.{index}": shared for index in range(100)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="bytes that share"):
        import_network(tmp_path / "x.pt")


@pytest.mark.parametrize("dtype", [torch.complex64, torch.bool, torch.int32])
def test_weights_that_are_not_floating_point_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = state("vitgan/off-discriminator-32")
    tensors["layers.0.1.bias"] = tensors["layers.0.1.bias"].to(dtype)
    torch.save(tensors, tmp_path / "x.pt")
    with pytest.raises(SpecError, match=rf"has dtype {dtype}, not floating point"):
        import_network(tmp_path / "x.pt")


def fill(path: Path) -> None:
    torch.zeros(2**32)


def wait(path: Path) -> None:
    while True:
        pass


def die(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("function", "message"),
    [(die, "ended with: Killed"), (fill, "needs more than 0.5 GiB"), (wait, "takes more than 2 seconds")],
)
def test_the_worker_reports_crashes_and_limits(tmp_path: Path, function: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=f"it failed: .*{message}"):
        run_in_worker(function, (tmp_path / "x",), "it failed", seconds=2, memory=2**29)


def test_the_worker_has_a_limit_on_the_time_of_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "poll", lambda self, seconds: True)  # as if the parent did not wait
    with pytest.raises(CheckpointError, match="it failed: it takes more than 1 seconds of the processor"):
        run_in_worker(wait, (tmp_path / "x",), "it failed", seconds=1, memory=2**29)

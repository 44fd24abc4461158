"""Packages that `ganblocks new-plugin` writes: one of every family is installed, and its tests pass."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ganblocks.errors import UsageError
from ganblocks.plugin_templates import FAMILIES, write_package
from registry import Block, catalogue

ROOT = Path(__file__).parents[1]
WITH_KERNEL = ("attention",)


def write_all(folder: Path) -> list[Path]:
    """A package of every family in a folder; returns their folders."""
    for family in FAMILIES:
        write_package(f"demo-{family}", family, folder, kernel=family in WITH_KERNEL)
    return sorted(folder.iterdir())


def announce(package: Path, site: Path) -> None:
    """What an editable installation writes: the metadata of a package, without its code."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    about = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = "".join(f"{name} = {module}\n" for name, module in project["entry-points"]["ganblocks"].items())
    (about / "entry_points.txt").write_text(f"[ganblocks]\n{points}")


def run(*arguments: object, path: list[Path], **options: object) -> subprocess.CompletedProcess[str]:
    """Run Python with folders in front of its path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, **options)


def test_there_is_a_template_of_every_family() -> None:
    catalogue.load()
    assert {name for name, each in Block.families.items() if each.__module__.startswith(("blocks", "assemblies"))} == {
        *FAMILIES
    }


def test_packages_are_formatted_and_free_of_lint(tmp_path: Path) -> None:
    for package in write_all(tmp_path):
        assert (package / "README.md").read_text().startswith(f"# {package.name}\n")
    for command in (("check", "--extend-select", "I,UP,B,PT,RUF", "--ignore", "F722,F821"), ("format", "--check")):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", tmp_path], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "spiral").mkdir()
    (tmp_path / "spiral" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"spiral exists already, and nothing is overwritten; take another name"):
        write_package("spiral", "norm", tmp_path)
    assert [path.name for path in (tmp_path / "spiral").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("name", "family", "message"),
    [
        ("Spiral", "norm", r"NAME: 'Spiral' is not lower-case words joined by hyphens, such as spiral-attention"),
        ("../spiral", "norm", "NAME: '../spiral' is not lower-case words"),
        ("json", "norm", "NAME: Python has a module json already; take another name, such as my-json"),
        ("class", "norm", "NAME: Python has a module class already"),
        ("spiral", "atention", "--family: unknown family 'atention'; did you mean 'attention'?"),
    ],
)
def test_names_that_do_not_fit_are_refused(tmp_path: Path, name: str, family: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        write_package(name, family, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_package_of_every_family_passes_its_tests(tmp_path: Path) -> None:
    packages = write_all(tmp_path / "packages")
    site = tmp_path / "site"
    installed, *announced = sorted(packages, key=lambda package: package.name != "demo-attention")
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", site)
    done = run(*pip, installed, path=[])
    assert done.returncode == 0, done.stderr
    for package in announced:
        announce(package, site)
    options = ("-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, "-c", os.devnull, "--import-mode=importlib")
    tests = [package / "tests" for package in packages]
    done = run("-m", "pytest", *options, *tests, path=[site, *announced, ROOT], cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "failed" not in done.stdout
    done = run(
        *("-m", "pytest", *options, "--ganblocks-plugin", "demo-norm", "-k", "promised_shapes"),
        path=[site, *announced, ROOT],
        cwd=tmp_path / "site",
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr

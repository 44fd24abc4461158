"""A package adds a block: it is installed, used by changing one word of a spec, tested, and uninstalled."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tests.docs.markdown import ROOT

PACKAGE = ROOT / "examples" / "spiral_attention"


def python(*words: str | Path, check: bool = True) -> str:
    """Runs this environment's Python and returns its output."""
    environment = {name: value for name, value in os.environ.items() if name != "GANBLOCKS_PLUGINS"}
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env={**environment, "COLUMNS": "300"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    printed = done.stdout + done.stderr
    assert (done.returncode == 0) == check, f"{' '.join(map(str, words))}\n{printed}"
    return printed


def ganblocks(*words: str | Path, check: bool = True) -> str:
    return python("-c", "from ganblocks.cli.app import main; main()", *words, check=check)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """The custom GAN of the examples with spiral attention in place of dense attention."""
    example = runpy.run_path(str(ROOT / "examples" / "build_custom_gan.py"))
    generator = json.dumps(example["GENERATOR"])
    assert generator.count('"kind": "dense"') == 1
    changed = {"generator": json.loads(generator.replace('"kind": "dense"', '"kind": "spiral"'))}
    path = tmp_path / "spiral.yaml"
    path.write_text(yaml.safe_dump(example["HYBRID"].to_dict() | {"plugins": {}} | changed))
    return path


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Path]:
    """A copy of the package, installed without network and uninstalled after the test."""
    if find_spec("pip") is None:
        pytest.skip("this environment has no pip")
    copy = shutil.copytree(PACKAGE, tmp_path / "spiral_attention")
    try:
        python("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", copy)
        yield copy
    finally:
        python("-m", "pip", "uninstall", "--quiet", "--yes", "spiral-attention")


@pytest.fixture
def message(spec: Path) -> str:
    """The error message for the spec while the package is not installed."""
    return ganblocks("show", spec, check=False)


@pytest.mark.slow
def test_a_block_of_another_package_can_be_used(spec: Path, message: str, package: Path, tmp_path: Path) -> None:
    assert "unknown attention 'spiral'; valid: " in message
    valid = message.partition("valid: ")[2].partition(" (")[0].split(", ")
    assert {"dense", "hydra-na", "na"} < set(valid)
    assert "spiral" not in valid
    assert "(if another package provides it: pip install PACKAGE)" in message
    assert "generator.synthesis.1.attention" in message
    assert "Traceback" not in message

    listed = ganblocks("blocks", "spiral")
    assert "spiral-attention 0.1.0" in listed
    assert "num_points" in listed
    assert "multiply-adds" in ganblocks("show", spec)
    ganblocks("train", spec, "--data", "digits", "--out", tmp_path / "run", "--kimg", "0.064", "--quiet")
    own_tests = [package / "test_spiral_attention.py", "-c", package / "pyproject.toml"]
    python("-m", "pytest", "-q", "-p", "no:cacheprovider", *own_tests)

    python("-m", "pip", "uninstall", "--quiet", "--yes", "spiral-attention")
    spec.write_text(spec.read_text().replace("plugins: {}", "plugins: {ganblocks: 0.1.0, spiral-attention: 0.1.0}"))
    cure = "(the document was made with spiral-attention 0.1.0, not installed here: pip install spiral-attention)"
    assert cure in ganblocks("show", spec, check=False)
    refused = ganblocks("sample", tmp_path / "run", check=False)
    assert "unknown attention 'spiral'" in refused
    assert "spiral-attention 0.1.0" in refused
    assert "Traceback" not in refused

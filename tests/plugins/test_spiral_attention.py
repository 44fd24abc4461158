"""A stranger's package adds a block, is used by changing one word of a spec, and goes again; nobody told ganblocks."""

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

from tests.test_readme import ROOT

PACKAGE = ROOT / "examples" / "spiral_attention"


def python(*words: str | Path, check: bool = True) -> str:
    """Runs this environment's Python and gives what it printed."""
    limited = {name: value for name, value in os.environ.items() if name != "GANBLOCKS_PLUGINS"}
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env={**limited, "COLUMNS": "300"},
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
    """The custom GAN of the examples with one word changed."""
    example = runpy.run_path(str(ROOT / "examples" / "build_custom_gan.py"))
    told = json.dumps(example["GENERATOR"])
    assert told.count('"kind": "dense"') == 1
    changed = {"generator": json.loads(told.replace('"kind": "dense"', '"kind": "spiral"'))}
    path = tmp_path / "spiral.yaml"
    path.write_text(yaml.safe_dump(example["HYBRID"].to_dict() | {"plugins": {}} | changed))
    return path


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Path]:
    """A copy of the package, installed without network; what it gives is gone afterwards in any case."""
    if find_spec("pip") is None:
        pytest.skip("this environment has no pip")
    copy = shutil.copytree(PACKAGE, tmp_path / "spiral_attention")
    try:
        python("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", copy)
        yield copy
    finally:
        python("-m", "pip", "uninstall", "--quiet", "--yes", "spiral-attention")


@pytest.fixture
def complaint(spec: Path) -> str:
    """What is said of the spec before the package comes."""
    return ganblocks("show", spec, check=False)


@pytest.mark.slow
def test_a_strangers_block_comes_is_used_and_goes(spec: Path, complaint: str, package: Path, tmp_path: Path) -> None:
    assert "no attention of kind 'spiral' is installed; valid: " in complaint
    valid = complaint.partition("valid: ")[2].partition(";")[0].split(", ")
    assert {"dense", "hydra-na", "na"} < set(valid)
    assert "spiral" not in valid
    assert "if another package gives it, install that package (pip install NAME)" in complaint
    assert "generator.synthesis.1.attention" in complaint
    assert "Traceback" not in complaint

    listed = ganblocks("blocks", "spiral")
    assert "spiral-attention 0.1.0" in listed
    assert "num_points" in listed
    assert "multiply-adds" in ganblocks("show", spec)
    ganblocks("train", spec, "--data", "digits", "--out", tmp_path / "run", "--kimg", "0.064", "--quiet")
    own_tests = [package / "test_spiral_attention.py", "-c", package / "pyproject.toml"]
    python("-m", "pytest", "-q", "-p", "no:cacheprovider", *own_tests)

    python("-m", "pip", "uninstall", "--quiet", "--yes", "spiral-attention")
    spec.write_text(spec.read_text().replace("plugins: {}", "plugins: {ganblocks: 0.1.0, spiral-attention: 0.1.0}"))
    made_with = "the document was made with spiral-attention 0.1.0, not installed here: pip install spiral-attention"
    assert made_with in ganblocks("show", spec, check=False)
    refused = ganblocks("sample", tmp_path / "run", check=False)
    assert "no attention of kind 'spiral' is installed" in refused
    assert "spiral-attention 0.1.0" in refused
    assert "Traceback" not in refused

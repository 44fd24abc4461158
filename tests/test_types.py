"""Type checkers (mypy, pyright) read the signatures of blocks; every package is marked as typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_layers import MAY_IMPORT, ROOT

CODE = """
from blocks import HydraNA, SelfModulatedLayerNorm

attention = HydraNA(64, (16, 24), num_heads=8)
SelfModulatedLayerNorm(8, 4, eps=1e-3)
HydraNA(64, (16, 24), heads=8)
HydraNA(64, (16, 24), num_heads="8")
HydraNA()
reveal_type(attention)
"""
ERRORS = {
    6: 'Unexpected keyword argument "heads" for "HydraNA"  [call-arg]',
    7: 'Argument "num_heads" to "HydraNA" has incompatible type "str"; expected "int"  [arg-type]',
    8: 'Missing positional arguments "dim", "resolution" in call to "HydraNA"  [call-arg]',
}
PYRIGHT_SAYS = {
    6: 'No parameter named "heads"',
    7: 'Argument of type "Literal[\'8\']" cannot be assigned to parameter "num_heads" of type "PositiveInt"',
    8: 'Arguments missing for parameters "dim", "resolution"',
    9: 'Type of "attention" is "HydraNA"',
}
WITHOUT_TORCH = """
[mypy]
ignore_missing_imports = true
follow_imports = silent
disable_error_code = name-defined

[mypy-torch.*]
follow_imports = skip
"""


def test_every_package_is_marked_as_typed() -> None:
    assert all((ROOT / package / "py.typed").is_file() for package in MAY_IMPORT)


@pytest.mark.slow
def test_mypy_reads_the_signatures_of_blocks(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text(CODE)
    (tmp_path / "mypy.ini").write_text(WITHOUT_TORCH)
    files = ["--config-file", tmp_path / "mypy.ini", "--cache-dir", tmp_path / "cache", tmp_path / "alone.py"]
    done = subprocess.run([sys.executable, "-m", "mypy", *files], cwd=ROOT, capture_output=True, text=True)
    errors = [line.partition(": error: ") for line in done.stdout.splitlines() if ": error: " in line]
    assert {int(place.rpartition(":")[2]): message for place, _, message in errors} == ERRORS


@pytest.mark.slow
def test_pyright_reads_the_signatures_of_blocks(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text(CODE)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"include": ["alone.py"], "extraPaths": [str(ROOT)]}))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", "-p", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    messages = {
        each["range"]["start"]["line"] + 1: each["message"] for each in json.loads(done.stdout)["generalDiagnostics"]
    }
    assert messages.keys() == PYRIGHT_SAYS.keys(), messages
    for line, start in PYRIGHT_SAYS.items():
        assert messages[line].startswith(start)

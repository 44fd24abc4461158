"""timm and open_clip can be imported wherever they are installed, also beside a torch that torchvision does not fit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from plugins.torchvision import import_beside_torchvision


def test_libraries_that_build_on_torchvision_can_be_imported() -> None:
    code = "from plugins.torchvision import import_beside_torchvision as load; load('timm'); load('open_clip')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_operation_that_torchvision_lacks_says_so_when_it_is_called() -> None:
    import_beside_torchvision("torchvision")
    operations = import_beside_torchvision("torchvision.ops")
    if import_beside_torchvision("torchvision.extension")._has_ops():
        pytest.skip("torchvision fits torch here")
    with pytest.raises(RuntimeError, match="incompatible"):
        operations.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)


def test_a_library_that_is_not_there_is_an_import_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        import_beside_torchvision("no_such_library")


def test_other_failures_are_told_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_library.py").write_text("raise RuntimeError('no disk')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="broken_library cannot be imported: no disk"):
        import_beside_torchvision("broken_library")

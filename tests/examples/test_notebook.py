"""The notebook runs from the first cell to the last."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from ganblocks.sampling.grids import to_picture

NOTEBOOK = Path(__file__).parents[2] / "examples" / "hybrid.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_and_draws_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    namespace = {"__name__": "__main__"}
    for number, cell in enumerate(json.loads(NOTEBOOK.read_text("utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            code = "".join(cell["source"]).replace("kimg = 0.6", "kimg = 0.1")
            exec(compile(code, f"{NOTEBOOK}, cell {number}", "exec", dont_inherit=True), namespace)
    (folder,) = tmp_path.glob("ganblocks-*")
    assert {path.name for path in folder.iterdir()} == {"run", "samples.png", "styles.png", "interpolation.png"}
    with Image.open(folder / "samples.png") as grid:  # 4 x 4 pixels for each of the first image
        assert grid.getpixel((32, 32)) == to_picture(namespace["images"][0], "imagenet").getpixel((8, 8))
    assert "distance from real digits" in capsys.readouterr().out


def test_the_notebook_is_stored_without_output():
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    assert notebook["nbformat"] == 4
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook["cells"])

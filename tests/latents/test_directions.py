"""Directions are the principal components of w, or of the layers' style maps, and edits move along them."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from assemblies import CheckpointError, parse
from blocks.common.equalized import EqualLinear
from ganblocks.errors import UsageError
from ganblocks.latents import directions as module
from ganblocks.latents.directions import (
    FORMAT,
    Directions,
    find_directions,
    load_directions,
    save_directions,
    style_matrices,
)
from ganblocks.latents.edit import edit, save_edits, write_directions
from ganblocks.sampling.generate import generate, styles, synthesize
from ganblocks.sampling.style_mixing import StyleGroup
from registry.spec_file import write_tensors
from tests.sampling.conftest import randomise


def test_ganspace_directions_are_the_singular_vectors_of_w(generator):
    found = find_directions(generator, 4, samples=500)
    w = styles(generator, range(500))[:, 0].double()
    _, values, vectors = torch.linalg.svd(w - w.mean(0), full_matrices=False)
    cosines = (found.vectors.double() * vectors[:4]).sum(1).abs()
    torch.testing.assert_close(cosines, torch.ones(4, dtype=torch.float64), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.scales.double(), values[:4] / 499**0.5, rtol=1e-4, atol=0)
    assert (found.vectors.gather(1, found.vectors.abs().argmax(1, keepdim=True)) > 0).all()


def test_sefa_directions_change_the_styles_of_the_layers_most(generator):
    found = find_directions(generator, 8, method="sefa", samples=50)
    layers = [module for module in generator.synthesis.modules() if isinstance(module, torch.nn.Linear | EqualLinear)]
    weights = [layer.weight * getattr(layer, "scale", 1.0) for layer in layers]
    matrices = style_matrices(generator, torch.zeros(generator.w_dim))
    assert len(matrices) >= 2
    stacked = torch.cat(matrices)
    for matrix in matrices:  # of affine maps
        same = [weight for weight in weights if weight.shape == matrix.shape]
        assert any(torch.allclose(weight.double(), matrix, atol=1e-6) for weight in same)
    gains = (stacked @ found.vectors.double().T).norm(dim=0)
    assert (gains.diff() < 1e-6).all()
    torch.testing.assert_close(gains[0], torch.linalg.matrix_norm(stacked, 2), rtol=1e-5, atol=0)


@pytest.mark.parametrize("preset", ["mini-stylenat", "mini-vitgan", "mini-styleformer", "mini-stylegan-t"])
def test_style_maps_of_every_model_are_found(preset):
    import ganblocks

    generator = ganblocks.build(preset).generator.eval()
    matrices = style_matrices(generator, torch.zeros(generator.w_dim))
    assert len(matrices) >= 4
    assert all(matrix.shape[1] == generator.w_dim for matrix in matrices)


def test_an_edit_of_no_strength_changes_nothing_and_groups_bound_it(generator):
    ws = styles(generator, [3])
    directions = Directions(torch.eye(generator.w_dim)[:2], torch.tensor([2.0, 3.0]), "ganspace")
    assert torch.equal(edit(ws, directions, 0, 0.0), ws)
    moved = edit(ws, directions, 1, 0.5, [StyleGroup("", [1], None)])
    expected = ws.clone()
    expected[:, 1, 1] += 1.5
    torch.testing.assert_close(moved, expected)


def test_pictures_and_files_are_written(model, conditional, tmp_path):
    record = write_directions(model, tmp_path / "new" / "d.safetensors", count=3, device="cpu")
    found = load_directions(record["out"], conditional)
    assert found.method == "ganspace"
    assert found.vectors.shape == (3, conditional.w_dim)
    with Image.open(record["picture"]) as picture:
        assert picture.height >= 3 * 48
    save_edits(model, [0, 1], record["out"], tmp_path / "e.png", index=2, strengths=[-1, 1], classes=[1], device="cpu")
    middle = edit(styles(conditional, [0]), found, 2, 0.0)
    torch.testing.assert_close(next(synthesize(conditional, middle)), generate(conditional, [0]))
    with Image.open(tmp_path / "e.png") as picture:
        assert picture.height >= 2 * 48


def test_files_without_a_fingerprint_are_read_without_computing_one(conditional, tmp_path, monkeypatch):
    found = find_directions(conditional, 2, method="sefa", samples=20)
    save_directions(tmp_path / "new.safetensors", found)
    tensors = {"vectors": found.vectors, "scales": found.scales}
    write_tensors(tmp_path / "old.safetensors", tensors, {"format": FORMAT, "method": "sefa"})
    hashed = []
    monkeypatch.setattr(module, "sha256_of_tensors", lambda network: hashed.append(network) or found.fingerprint)
    assert load_directions(tmp_path / "old.safetensors", conditional).method == "sefa"
    assert not hashed
    assert load_directions(tmp_path / "new.safetensors", conditional).fingerprint == found.fingerprint
    assert hashed == [conditional]


def test_what_cannot_be_done_is_said(model, conditional, generator, tmp_path):
    with pytest.raises(UsageError, match=r"w has \d+ dimensions"):
        write_directions(model, tmp_path / "d.safetensors", count=1000, device="cpu")
    with pytest.raises(UsageError, match=r"are a \.safetensors file"):
        write_directions(model, tmp_path / "d.png", device="cpu")
    before = model.read_bytes()
    with pytest.raises(UsageError, match="exists and holds no directions, such as a model; choose another name"):
        write_directions(model, model, count=1, device="cpu")
    assert model.read_bytes() == before
    with pytest.raises(CheckpointError, match="is a folder; give a file of `ganblocks directions`"):
        load_directions(tmp_path, conditional)
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="cannot be read as directions"):
        load_directions(tmp_path / "broken.safetensors", conditional)
    with pytest.raises(CheckpointError, match="holds no directions"):
        load_directions(model, conditional)
    save_directions(tmp_path / "other.safetensors", Directions(torch.eye(3), torch.ones(3), "sefa"))
    with pytest.raises(CheckpointError, match="style vectors have"):
        load_directions(tmp_path / "other.safetensors", conditional)
    found = find_directions(generator, 2, samples=20)._replace(model="runs/other")
    save_directions(tmp_path / "other.safetensors", found)
    with pytest.raises(CheckpointError, match=r"of another generator \(runs/other, sha256 .*`ganblocks directions`"):
        save_edits(model, [0], tmp_path / "other.safetensors", tmp_path / "e.png", device="cpu")
    save_directions(tmp_path / "d.safetensors", find_directions(conditional, 2, samples=20))
    with pytest.raises(UsageError, match="directions 0 to 1"):
        save_edits(model, [0], tmp_path / "d.safetensors", tmp_path / "e.png", index=2, device="cpu")
    assert not (tmp_path / "e.png").exists()
    other = randomise(parse(generator.spec.to_dict()).build())
    with pytest.raises(ValueError, match="valid: ganspace, sefa"):
        find_directions(other, 1, method="pca", samples=10)

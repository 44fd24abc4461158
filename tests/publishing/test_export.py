"""Exported programs give the images of their generator, for any batch size and noise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ganblocks
from assemblies import parse
from blocks.common.noise import Noise
from ganblocks.errors import UsageError
from ganblocks.publishing import export as exporting
from ganblocks.publishing.export import ExportError, export
from ganblocks.publishing.programs import programs
from tests.budget import only_in_full
from tests.generators import MINI, small_generator
from tests.sampling.conftest import randomise

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
LONG = only_in_full("five minutes and 9 GB")


def run(folder, name, inputs):
    session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
    return session.run(None, {key: value.numpy() for key, value in inputs.items()})[0]


def test_onnx_programs_give_the_images_of_the_generator(generator, tmp_path):
    record = export(generator, tmp_path / "exported")
    z, c, psi = torch.randn(5, 8), torch.eye(3)[[0, 1, 2, 0, 1]], torch.tensor(0.4)
    ws = run(tmp_path / "exported", "mapping", {"z": z, "c": c, "truncation_psi": psi})
    expected = generator.mapping(z, c, truncation_psi=0.4)
    torch.testing.assert_close(torch.from_numpy(ws), expected, rtol=1e-5, atol=1e-5)
    layers = [module for module in generator.synthesis.modules() if isinstance(module, Noise)]
    noise = {f"noise_{n}": layer.const.expand(5, -1, -1).contiguous() for n, layer in enumerate(layers)}
    assert len(noise) == 2
    image = run(tmp_path / "exported", "synthesis", {"ws": torch.from_numpy(ws), **noise})
    torch.testing.assert_close(torch.from_numpy(image), generator.synthesis(expected), rtol=1e-4, atol=1e-4)
    other = noise | {"noise_1": torch.randn_like(noise["noise_1"])}
    changed = run(tmp_path / "exported", "synthesis", {"ws": torch.from_numpy(ws), **other})
    assert np.abs(changed - image).max() > 1e-2
    session = onnxruntime.InferenceSession(tmp_path / "exported" / "synthesis.onnx")
    assert all(each.shape[0] == "batch" for each in (*session.get_inputs(), *session.get_outputs()))
    stored = onnx.load(tmp_path / "exported" / "synthesis.onnx")
    assert {each.version for each in stored.opset_import if not each.domain} == {record["opset"]} == {20}
    assert json.loads((tmp_path / "exported" / "model.json").read_text()) == record
    assert record["programs"]["mapping"]["inputs"]["c"] == ["batch", 3]
    assert all(program["difference"] <= 1e-4 for program in record["programs"].values())


@pytest.mark.parametrize("format", ["torch-export", pytest.param("aoti", marks=pytest.mark.slow)])
def test_other_formats_give_the_images_of_the_generator(generator, tmp_path, format):
    record = export(generator, tmp_path / "exported", format=format)
    file = tmp_path / "exported" / record["programs"]["synthesis"]["file"]
    load = torch.export.load if format == "torch-export" else torch._inductor.aoti_load_package
    program = load(file).module() if format == "torch-export" else load(str(file))
    inputs = programs(generator)["synthesis"].sample(4)
    noise = [inputs[name] for name in inputs if name != "ws"]
    module = programs(generator)["synthesis"].module
    torch.testing.assert_close(program(inputs["ws"], *noise), module(inputs["ws"], *noise), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MINI, "r3gan", "gat"])
def test_a_small_generator_of_every_model_can_be_exported_to_onnx(name, tmp_path):
    record = export(small_generator(name), tmp_path / "exported")
    assert all(program["difference"] <= 1e-4 for program in record["programs"].values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset",
    [
        "vitgan-official-cifar10-32",
        pytest.param("styleformer-cifar10-32", marks=only_in_full("half a minute; mini-styleformer has its blocks")),
        pytest.param("stylenat-ffhq-256", marks=LONG),
    ],
)
def test_presets_can_be_exported_to_onnx(preset, tmp_path):
    torch.manual_seed(0)
    generator = randomise_mildly(ganblocks.build(preset).generator)
    record = export(generator, tmp_path / "exported")
    assert all(program["difference"] <= 1e-4 for program in record["programs"].values())


def randomise_mildly(generator):
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return generator.eval()


def test_the_example_samples_without_torch(model, tmp_path):
    export(model, tmp_path / "exported")
    example = Path(__file__).parents[2] / "examples" / "sample_onnx.py"
    assert "torch" not in example.read_text().replace("torch-export", "")
    subprocess.run([sys.executable, example, tmp_path / "exported", tmp_path / "out.png"], check=True)
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (8 * 8, 8)
        assert len(np.unique(np.asarray(picture))) > 16


def test_only_an_earlier_export_is_replaced(generator, tmp_path):
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "model.json").write_text("kept")
    with pytest.raises(UsageError, match="exists; pass --overwrite"):
        export(generator, tmp_path / "earlier", format="torch-export")
    with pytest.raises(UsageError, match=r"model\.json is a file; choose a folder"):
        export(generator, tmp_path / "earlier" / "model.json", format="torch-export")
    (tmp_path / "earlier" / "model.safetensors").write_text("kept")
    with pytest.raises(UsageError, match=r"has model\.safetensors, which is no file of an export; choose another"):
        export(generator, tmp_path / "earlier", format="torch-export", overwrite=True)
    assert all(path.read_text() == "kept" for path in (tmp_path / "earlier").iterdir())
    with pytest.raises(UsageError, match="unknown; valid: onnx, torch-export, aoti"):
        export(generator, tmp_path / "new", format="tflite")
    with pytest.raises(UsageError, match="in eval mode"):
        export(parse(generator.spec.to_dict()).build(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_program_with_other_results_is_an_error_and_leaves_nothing(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="mapping: the exported program differs by"):
        export(generator, tmp_path / "exported", format="torch-export")
    assert not list(tmp_path.iterdir())


def test_a_block_that_cannot_be_exported_is_named_by_its_error(generator, tmp_path):
    broken = randomise(parse(generator.spec.to_dict()).build())
    broken.mapping.forward = lambda z, c, truncation_psi=1.0: z[:, None] if z.sum() > 0 else -z[:, None]
    with pytest.raises(ExportError, match="mapping: cannot be exported as torch-export"):
        export(broken, tmp_path / "exported", format="torch-export")
    assert not list(tmp_path.iterdir())

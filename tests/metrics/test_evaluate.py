"""The whole path: a model, real images, an extractor, values, and their record beside the model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from assemblies import Generator, load_model, save_model
from blocks.metric.frechet import frechet_distance, gaussian_of
from ganblocks import DigitScore, generate
from ganblocks.data.digits import digits
from ganblocks.errors import DataError, RunError, UsageError
from ganblocks.metrics import references
from ganblocks.metrics.evaluate import evaluate, write_reference
from ganblocks.metrics.records import append_records, read_records
from registry import SpecError
from tests.generators import MODELS, small_generator

ON_CPU = {"device": "cpu", "data": "digits"}


def features_of(extractor_file, images):
    with torch.no_grad():
        return torch.jit.load(extractor_file)(images)


def expected_fid(model, extractor_file, num, seed=0, **options):
    fake = generate(model if isinstance(model, Generator) else load_model(model), range(seed, seed + num), **options)
    fake = (fake * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    sets = [features_of(extractor_file, each).double() for each in (fake, digits("train", 16, 3).pixels)]
    return frechet_distance(*gaussian_of(sets[0]), *gaussian_of(sets[1]))


def test_the_value_is_that_of_its_definition(model, extractor_file, with_extractor):
    (record,) = evaluate(model, ["fid"], num=70, seed=5, truncation_psi=0.5, **ON_CPU, **with_extractor("fid"))
    expected = expected_fid(model, extractor_file, 70, 5, truncation_psi=0.5)
    assert record["value"] == pytest.approx(expected, rel=1e-4)
    (other,) = evaluate(model, ["fid"], num=70, batch_size=9, **ON_CPU, **with_extractor("fid"))
    assert other["value"] == pytest.approx(expected_fid(model, extractor_file, 70), rel=1e-4)


def test_the_record_of_a_training_in_stages_is_beside_the_model_of_the_last_stage(model, with_extractor, tmp_path):
    stage = tmp_path / "stages" / "1-only"
    stage.mkdir(parents=True)
    model.rename(stage / "model.safetensors")
    (stage.parent / "multi_stage.yaml").touch()
    records = evaluate(stage.parent, ["fid"], num=60, **ON_CPU, **with_extractor("fid"))
    assert read_records(stage / "metrics.jsonl") == records


def test_a_record_says_all_that_the_value_depends_on(model, extractor_file, with_extractor):
    options = with_extractor("fid", "kid") | {"settings": [*with_extractor("fid", "kid")["settings"], "kid.subsets=3"]}
    evaluate(model, ["fid", "kid"], num=1000, command="ganblocks evaluate ...", **ON_CPU, **options)
    fid, kid = read_records(model.parent / "metrics.jsonl")
    assert (fid["protocol"], fid["changed"]) == ("stylegan-full", ["num", "extractor"])
    assert fid["extractor"]["kind"] == "torchscript"
    assert len(fid["extractor"]["sha256"]) == 64
    assert fid["extractor"]["resize_filter"] == "by the TorchScript module"
    assert (fid["quantisation"], fid["num"], fid["seed"], fid["truncation_psi"]) == ("round", 1000, 0, 1.0)
    reference = fid["reference"]
    assert (reference["name"], reference["count"], reference["split"]) == ("digits", 1437, "train")
    assert reference["resolution"] == [16, 16]
    assert len(reference["hash"]) == 16
    assert kid["options"] == {"subsets": 3, "subset_size": 1000, "seed": 2020}
    assert set(kid["values"]) == {"kid", "kid_std"}
    assert kid["value"] == kid["values"]["kid"]
    assert {"torch", "torch-fidelity", "ganblocks"} <= set(fid["versions"])
    assert fid["command"] == "ganblocks evaluate ..."
    assert fid["precision"] == "fp32"
    assert any(name.startswith("neighborhood_attention: ") for name in fid["kernels"])
    assert fid["model"]["file"] == "model.safetensors"
    assert fid["seconds"] > 0


def test_images_are_those_of_the_generator_optimised_for_the_precision(model, extractor_file, with_extractor):
    (record,) = evaluate(model, ["fid"], num=60, precision="bf16", noise="const", **ON_CPU, **with_extractor("fid"))
    fast = load_model(model).optimize_for_inference(precision="bf16")
    expected = expected_fid(fast, extractor_file, 60)
    assert record["value"] == pytest.approx(expected, rel=1e-3)
    assert expected != pytest.approx(expected_fid(model, extractor_file, 60), rel=1e-6)
    assert record["precision"] == "bf16"
    assert sum(record["kernels"].values()) > 2
    with pytest.raises(RunError, match="fp16 needs a GPU"):
        evaluate(model, ["fid"], num=60, precision="fp16", **ON_CPU, **with_extractor("fid"))


@pytest.mark.parametrize("name", MODELS)
def test_the_path_length_in_w_is_measured_of_every_generator(name, with_extractor, tmp_path):
    generator = small_generator(name)
    save_model(tmp_path / "model.safetensors", generator)
    options = {"num": 16, "labels": "balanced", "device": "cpu"} | with_extractor("ppl")
    (record,) = evaluate(tmp_path, ["ppl"], **options)
    assert record["value"] > 0
    assert len(record["values"]) == 2


def test_records_are_appended_after_a_damaged_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_records(path, [{"metric": "fid", "value": 1}])
    with path.open("a") as file:
        file.write('{"metric": "ki')
    append_records(path, [{"metric": "kid", "value": 2}, {"metric": "is", "value": 3}])
    assert [record["metric"] for record in read_records(path)] == ["fid", "kid", "is"]


def test_statistics_are_cached_by_what_they_depend_on(model, extractor_file, with_extractor, cache, monkeypatch):
    first = evaluate(model, ["fid"], num=64, **ON_CPU, **with_extractor("fid"))
    (file,) = cache.iterdir()
    read = []
    monkeypatch.setattr(
        references.RealImages, "read", lambda self, index: read.append(index) or self.images.read(index)
    )
    assert evaluate(model, ["fid"], num=64, **ON_CPU, **with_extractor("fid"))[0]["value"] == first[0]["value"]
    assert not read
    evaluate(model, ["fid"], num=64, reference_num=100, **ON_CPU, **with_extractor("fid"))
    assert len(read) == 100
    assert len(list(cache.iterdir())) == 2
    file.write_bytes(file.read_bytes()[:100])
    read.clear()
    assert evaluate(model, ["fid"], num=64, **ON_CPU, **with_extractor("fid"))[0]["value"] == first[0]["value"]
    assert len(read) == 1437


def test_a_saved_reference_replaces_the_data(model, with_extractor, tmp_path):
    stats = tmp_path / "out" / "stats.npz"
    saved = evaluate(model, ["fid"], num=64, save_reference=stats, **ON_CPU, **with_extractor("fid"))
    with np.load(stats) as arrays:
        assert arrays["mu"].shape == (12,)
        assert arrays["sigma"].shape == (12, 12)
    again = evaluate(model, ["fid"], num=64, reference=stats, device="cpu", **with_extractor("fid"))
    assert again[0]["value"] == saved[0]["value"]
    assert again[0]["reference"] == saved[0]["reference"]
    with pytest.raises(DataError, match="mean and covariance only"):
        evaluate(model, ["prdc"], num=64, reference=stats, device="cpu", **with_extractor("prdc"))
    full = tmp_path / "full.npz"
    saved = evaluate(model, ["prdc"], num=64, save_reference=full, **ON_CPU, **with_extractor("prdc"))
    again = evaluate(model, ["prdc"], num=64, reference=full, device="cpu", **with_extractor("prdc"))
    assert again[0]["values"] == saved[0]["values"]


def test_a_reference_needs_no_model(model, with_extractor, tmp_path):
    options = {"device": "cpu"} | with_extractor("fid")
    record = write_reference("digits", save_reference=tmp_path / "a.npz", resolution="16", **options)
    evaluate(model, ["fid"], "digits", num=64, save_reference=tmp_path / "b.npz", **options)
    with np.load(tmp_path / "a.npz") as first, np.load(tmp_path / "b.npz") as second:
        assert (first["mu"] == second["mu"]).all()
        assert (first["sigma"] == second["sigma"]).all()
        assert json.loads(str(first["record"])) == json.loads(str(second["record"])) == record
    wide = write_reference("digits", save_reference=tmp_path / "c.npz", resolution="16x24", **options)
    assert wide["reference"]["resolution"] == [16, 24]
    with pytest.raises(DataError, match="16 x 24 pixels, the model's have 16 x 16"):
        evaluate(model, ["fid"], num=64, reference=tmp_path / "c.npz", **options)
    with pytest.raises(UsageError, match="need --save-reference FILE and --resolution"):
        write_reference("digits", save_reference=tmp_path / "d.npz", **options)
    with pytest.raises(UsageError, match="should be written like 256 or 128x256"):
        write_reference("digits", save_reference=tmp_path / "d.npz", resolution="large", **options)
    with pytest.raises(UsageError, match="--resolution is for --save-reference without a model"):
        evaluate(model, ["fid"], "digits", num=64, resolution=16, **options)
    assert not (tmp_path / "d.npz").exists()


def test_layouts_of_pytorch_fid_and_adm_are_read(model, extractor_file, with_extractor, tmp_path):
    (expected,) = evaluate(model, ["fid"], num=64, **ON_CPU, **with_extractor("fid"))
    pixels = digits("train", 16, 3).pixels
    mean, covariance = (each.numpy() for each in gaussian_of(features_of(extractor_file, pixels)))
    images = pixels.permute(0, 2, 3, 1).numpy()
    files = {
        "pytorch-fid": {"mu": mean, "sigma": covariance},
        "adm": {"mu": mean, "sigma": covariance, "mu_s": mean, "sigma_s": covariance, "arr_0": images[:50]},
        "adm images": {"arr_0": images},
    }
    for layout, arrays in files.items():
        path = tmp_path / f"{layout}.npz"
        np.savez(path, **arrays)
        (record,) = evaluate(model, ["fid"], num=64, reference=path, device="cpu", **with_extractor("fid"))
        assert record["value"] == pytest.approx(expected["value"], rel=1e-6), layout
        assert record["reference"]["layout"] == layout.split()[0]
        assert len(record["reference"]["hash"]) == 64
    (kid,) = evaluate(model, ["prdc"], num=64, reference=tmp_path / "adm.npz", device="cpu", **with_extractor("prdc"))
    assert kid["reference"]["count"] == 50


def test_a_run_is_compared_with_its_own_data(model, with_extractor, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    save_model(run / "model.safetensors", load_model(model), {"images": 4000, "data": "digits", "resize_filter": "box"})
    (record,) = evaluate(run, ["fid"], num=64, device="cpu", **with_extractor("fid"))
    assert record["reference"]["name"] == "digits"
    assert record["reference"]["resize_filter"] == "box"
    assert record["ema"] is True
    assert record["model"]["images"] == 4000
    assert (run / "metrics.jsonl").is_file()
    save_model(run / "model.safetensors", load_model(model), {"images": 4000, "data": str(tmp_path / "gone")})
    with pytest.raises(DataError, match="which is not here; give --data, or --reference"):
        evaluate(run, ["fid"], num=64, device="cpu", **with_extractor("fid"))
    (record,) = evaluate(run, ["digit"], num=64, device="cpu")  # needs no data
    assert record["reference"] is None


def test_the_digit_score_keeps_its_numbers(model):
    generator = load_model(model)
    (record,) = evaluate(model, ["digit"], num=100, device="cpu")
    assert record["value"] == pytest.approx(DigitScore(16).score(generator, num_samples=100), rel=1e-4)
    assert record["quantisation"] == "none"


def test_the_path_length_does_not_depend_on_noise_or_batches(model, with_extractor):
    values = []
    for size in (4, 20):
        (record,) = evaluate(model, ["ppl"], num=20, batch_size=size, device="cpu", **with_extractor("ppl"))
        values.append(record["value"])
        assert (record["quantisation"], record["noise"], record["reference"]) == ("none", "const", None)
    assert values[0] > 0
    assert values[1] == pytest.approx(values[0], rel=0.05)  # differences of images that are close together


@pytest.mark.slow
def test_inception_is_shared_by_its_metrics(model, tmp_path):
    from plugins.fidelity.networks import _unloaded_inception

    torch.manual_seed(0)
    torch.save(_unloaded_inception().state_dict(), tmp_path / "inception.pth")
    options = {"extractor_weights": [str(tmp_path / "inception.pth")], "reference_num": 12, "device": "cpu"}
    settings = ["is.splits=2", "kid.subset_size=10", "kid.subsets=3"]
    records = evaluate(model, ["fid", "is", "kid"], "digits", num=12, settings=settings, **options)
    assert len({json.dumps(record["extractor"]) for record in records}) == 1
    assert [record["changed"] for record in records] == [["num", "reference_num"]] * 3
    assert records[0]["extractor"]["preprocessing"] == "tensorflow"
    assert 1 <= records[1]["value"] < 2
    other = evaluate(model, ["fid"], "digits", num=12, protocol="stylenat-50k", **options)
    assert other[0]["extractor"]["preprocessing"] == "pytorch-fid"
    assert other[0]["value"] != records[0]["value"]


def test_mistakes_are_explained_and_leave_nothing(model, with_extractor, tmp_path, monkeypatch):
    monkeypatch.setenv("GANBLOCKS_WEIGHTS", str(tmp_path))
    fid, prdc = with_extractor("fid"), with_extractor("prdc")
    np.savez(tmp_path / "wide.npz", mu=np.zeros(7), sigma=np.eye(7))
    np.savez(tmp_path / "large.npz", arr_0=np.zeros((20, 32, 32, 3), np.uint8))
    np.savez(tmp_path / "few.npz", arr_0=np.zeros((4, 16, 16, 3), np.uint8))
    np.savez(tmp_path / "other.npz", weights=np.zeros(7))
    np.savez(tmp_path / "odd.npz", mu=np.zeros(7), sigma=np.eye(6))
    np.savez(tmp_path / "nan.npz", mu=np.full(12, np.nan), sigma=np.eye(12))
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    cases = [
        (
            ["fid"],
            {"extractor_weights": ["absent.pth"]},
            SpecError,
            "fid.extractor.weights.*'absent.pth' does not",
        ),
        (["fdi"], {}, SpecError, "unknown metric 'fdi'.*fid"),
        ([], {}, UsageError, "--metrics is empty; valid: .*fid"),
        (["fid"], {"settings": ["fid.extractr=3"]}, SpecError, "extractr"),
        (["fid"], {"settings": ["subsets=3"]}, UsageError, "--set subsets: write METRIC.OPTION=VALUE; the metrics are"),
        (["fid"], {"settings": ["fid=3"]}, UsageError, "--set fid: write METRIC.OPTION=VALUE; the metrics are fid"),
        (["fid", "prdc"], {"extractor_weights": ["x.pth"]}, UsageError, "use the extractors: inception, vgg16"),
        (["kid"], with_extractor("kid"), DataError, "kid needs at least 1,000 images, not 64; raise --num"),
        (["fid"], fid | {"protocol": "stylenat-50k"}, DataError, "1,437 images; the protocol draws 50,000"),
        (["fid"], fid | {"reference": tmp_path / "absent.npz"}, DataError, "does not exist"),
        (["fid"], fid | {"reference": tmp_path / "wide.npz"}, DataError, "7 features, torchscript has 12"),
        (["fid"], fid | {"reference": tmp_path / "large.npz"}, DataError, "32 x 32 pixels, the model's have 16 x 16"),
        (
            ["prdc"],
            prdc | {"reference": tmp_path / "few.npz"},
            DataError,
            "few.npz has 4 images; prdc needs at least 6",
        ),
        (["fid"], fid | {"reference": tmp_path / "other.npz"}, DataError, "has weights; a reference has mu and sigma"),
        (["fid"], fid | {"reference": tmp_path / "odd.npz"}, DataError, r"sigma \(6, 6\), not \(F,\) and \(F, F\)"),
        (["fid"], fid | {"reference": tmp_path / "nan.npz"}, DataError, "not finite"),
        (["fid"], fid | {"reference": tmp_path / "torn.npz"}, DataError, "cannot be read as .npz"),
        (["fid"], fid | {"save_reference": tmp_path / "x.txt"}, UsageError, "write an .npz file"),
        (["digit"], {"save_reference": tmp_path / "x.npz"}, UsageError, "Name metrics of one extractor"),
        (["clip-score"], {}, SpecError, "clip-score +needs a text-conditional model"),
        (["fid"], fid | {"data": str(tmp_path / "gone")}, DataError, "gone"),
        (["is"], with_extractor("is"), SpecError, "torchscript has no classifier; use inception"),
    ]
    for metrics, options, error, message in cases:
        with pytest.raises(error, match=f"(?s){message}"):
            evaluate(model, metrics, **{"num": 64, **ON_CPU, **options})
        assert not (model.parent / "metrics.jsonl").exists(), message
        assert not list(tmp_path.glob("x.*")), message


def test_a_reference_of_another_extractor_is_refused(model, with_extractor, tmp_path):
    stats = tmp_path / "stats.npz"
    evaluate(model, ["fid"], num=64, save_reference=stats, **ON_CPU, **with_extractor("fid"))
    options = with_extractor("fid")
    options["settings"].append("fid.extractor.arguments={scale: 2.0}")
    with pytest.raises(DataError, match=r"another extractor: arguments \{\} there, \{'scale': 2.0\} here"):
        evaluate(model, ["fid"], num=64, reference=stats, device="cpu", **options)


def test_a_reference_of_another_protocol_is_refused(model, with_extractor, tmp_path):
    part, options = tmp_path / "part.npz", {"device": "cpu"} | with_extractor("fid")
    write_reference("digits", save_reference=part, resolution="16", reference_num=500, **options)
    options |= {"num": 64, "reference": part}
    message = (
        "statistics of 500 of 1,437 images, the protocol stylegan-full takes 1,437; write it again with .*, or pass"
    )
    with pytest.raises(DataError, match=message):
        evaluate(model, ["fid"], **options)
    with pytest.raises(DataError, match=r"the protocol stylenat-50k takes 50,000.*--reference-num 500"):
        evaluate(model, ["fid"], protocol="stylenat-50k", **options)
    assert not (model.parent / "metrics.jsonl").exists()
    (record,) = evaluate(model, ["fid"], reference_num=500, **options)
    assert record["reference"]["count"] == 500
    assert record["changed"] == ["num", "reference_num", "extractor"]


def test_a_diverged_generator_is_named(model, with_extractor):
    generator = load_model(model)
    with torch.no_grad():
        next(generator.synthesis.parameters()).fill_(torch.nan)
    save_model(model, generator)
    with (
        pytest.warns(UserWarning, match="not finite"),
        pytest.raises(RunError, match="8 of 8 generated images have values that"),
    ):
        evaluate(model, ["fid"], num=8, **ON_CPU, **with_extractor("fid"))
    assert not (model.parent / "metrics.jsonl").exists()


def test_a_record_is_json_that_other_tools_read(model, with_extractor):
    evaluate(model, ["fid"], num=64, **ON_CPU, **with_extractor("fid"))
    lines = (model.parent / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["metric"] == "fid"

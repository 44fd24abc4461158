"""doctor lists kernels, why some cannot run, and plugins that failed to load."""

from __future__ import annotations

import json

from blocks.ops import native
from ganblocks import diagnosis
from ganblocks.cli.tables import print_doctor
from registry import catalogue, tuning


def test_doctor_lists_kernels_and_failed_plugins(ganblocks, monkeypatch):
    monkeypatch.setitem(catalogue.failures, "spiral (spiral-attention 1.0)", "ImportError: no module named spiral")
    code, out, _ = ganblocks("doctor", "--json")
    assert code == 0
    report = json.loads(out)
    assert report["failures"] == {"spiral (spiral-attention 1.0)": "ImportError: no module named spiral"}
    ops = {op["op"]: op["kernels"] for op in report["ops"]}
    for kernels in ops.values():
        (reference,) = [kernel for kernel in kernels if kernel["kernel"] == "reference"]
        assert reference["second_order"]
        assert reference["unavailable"] is None
    attention = {kernel["kernel"]: kernel for kernel in ops["attention"]}
    assert not attention["sdpa"]["second_order"]
    assert not attention["sdpa"]["forward_ad"]
    assert attention["reference"]["forward_ad"]
    assert report["versions"]["torch"]
    assert sum(plugin["blocks"] for plugin in report["plugins"]) == len(list(catalogue.entries()))
    _, table, _ = ganblocks("doctor")
    assert "spiral-attention 1.0) failed to load: ImportError" in table


def test_doctor_says_why_a_kernel_cannot_run(capsys):
    report = diagnosis.diagnose()
    kernel = {
        "kernel": "fast",
        "package": "natten",
        "priority": 9,
        "second_order": False,
        "forward_ad": False,
        "unavailable": "needs [cuda]",
    }
    print_doctor(report | {"ops": [{"op": "attention", "kernels": [kernel]}]})
    assert "no: needs [cuda]" in capsys.readouterr().out


def test_doctor_says_what_is_wrong_with_compiler_and_caches(ganblocks, monkeypatch, tmp_path):
    for function in (native.compiler, native.library, native.unavailable, native.cache_problem):
        function.cache_clear()
    monkeypatch.setenv("CXX", "'g++")
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    code, out, _ = ganblocks("doctor")
    assert code == 0
    text = " ".join(out.split())
    assert 'CXX="\'g++" is not a command (No closing quotation); another compiler is used' in text
    assert "Not a directory" in text
    native.cache_problem.cache_clear()


def test_doctor_names_a_damaged_file_of_kernel_choices(ganblocks, monkeypatch, tmp_path):
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path))
    tuning.Choices().path.write_text("[" * 100_000)
    _, out, _ = ganblocks("doctor", "--json")
    assert any("is ignored, and kernels are measured again" in each for each in json.loads(out)["problems"])

"""doctor lists kernels, why some cannot run, and plugins that failed to load."""

from __future__ import annotations

import json
import logging
import warnings

import pytest
import torch

from blocks.ops import native
from ganblocks import diagnosis, json_cache
from ganblocks.cli.tables import print_doctor
from registry import Kernel, Op, Origin, catalogue, hookimpl, tuning
from registry.catalogue import Catalogue
from tests.toys import added


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
    assert table.startswith("1 thing needs attention")
    text = " ".join(table.split())
    assert "the plugin spiral (spiral-attention 1.0) failed to load: ImportError: no module named spiral" in text


def test_doctor_says_why_a_kernel_cannot_run(capsys):
    report = diagnosis.diagnose()
    assert report["verdict"].startswith("everything needed is here")
    kernel = {
        "kernel": "fast",
        "package": "natten",
        "priority": 9,
        "second_order": False,
        "forward_ad": False,
        "unavailable": "needs [cuda]",
    }
    print_doctor(report | {"ops": [{"op": "attention", "kernels": [kernel]}]})
    assert "not here: fast: needs [cuda]" in capsys.readouterr().out


def test_doctor_fits_80_columns_and_begins_with_a_verdict(ganblocks):
    _, out, err = ganblocks("doctor")
    assert max(map(len, out.splitlines())) <= 80
    assert out.startswith("everything needed is here")
    assert not err


@pytest.mark.parametrize(
    ("cuda", "library", "enable"),
    [
        (False, "no-such-library", None),  # there is no device for it
        (True, "no-such-library", "pip install fast"),
        (True, "torch", None),  # it is installed
    ],
)
def test_a_command_is_printed_only_where_running_it_helps(monkeypatch, capsys, cuda, library, enable):
    class Reference(Kernel):
        op, name, second_order = "toy", "reference", True

    class Fast(Kernel):
        op, name, device = "toy", "fast", "cuda"

        def unavailable(self):
            return "is not installed"

    Fast.library, Fast.enable = library, "pip install fast"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(Op, "ops", {})
    Op("toy", Reference(), Fast())
    report = diagnosis.diagnose()
    ((reference, fast),) = ([*op["kernels"]] for op in report["ops"])
    assert (reference["enable"], fast["enable"]) == (None, enable)
    verdict = "everything needed is here; 1 faster kernel could be enabled" if enable else "everything needed is here"
    assert report["verdict"] == verdict
    print_doctor(report)
    assert ("- fast of toy: pip install fast" in capsys.readouterr().out) == (enable is not None)


def test_doctor_reports_names_of_two_packages(ganblocks, monkeypatch):
    conflict = "attention kind 'mine' is provided by acme 1 and by zenith 2; write acme/mine or zenith/mine"
    monkeypatch.setitem(catalogue.conflicts, "attention kind 'mine'", conflict)
    code, out, _ = ganblocks("doctor")
    assert code == 0
    assert out.startswith("1 thing needs attention")
    assert conflict in " ".join(out.split())


def test_doctor_reports_kernels_of_unknown_ops(ganblocks):
    class Misspelt:
        @hookimpl
        def register_kernels(self, register):
            register(type("Fast", (Kernel,), {"op": "atention", "name": "fast"})())

    with added(Misspelt(), Origin("theirs", "acme", "1")):
        _, out, _ = ganblocks("doctor")
    fact = "- the kernel fast of acme 1 is of op 'atention', which does not exist; did you mean 'attention'"
    assert fact in " ".join(out.split())


def test_doctor_hides_warnings_of_other_libraries(ganblocks, monkeypatch):
    def noisy(op):
        warnings.warn("triton is not available", stacklevel=1)
        logging.getLogger("xformers").warning("xformers was built for another torch")
        return []

    monkeypatch.setattr(catalogue, "kernels", noisy)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, _, err = ganblocks("doctor")
    assert not err
    assert not caught


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


@pytest.fixture
def reports(tmp_path, monkeypatch):
    """The reports that are probed; nothing is loaded, and the cache is empty."""
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path))
    monkeypatch.setattr(json_cache, "catalogue", Catalogue())
    healthy = {"verdict": "everything needed is here", "failures": {}, "conflicts": [], "problems": []}
    reports = []
    monkeypatch.setattr(diagnosis, "_probe", lambda: reports.append(healthy) or healthy)
    return reports


def test_a_report_is_probed_again_when_something_changes(reports, monkeypatch, tmp_path):
    assert diagnosis.diagnose() == diagnosis.diagnose()
    assert len(reports) == 1
    changes = [
        lambda: monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1"),
        lambda: monkeypatch.setenv("CXX", "some-compiler -O1"),
        lambda: monkeypatch.setattr(diagnosis, "DEVICE_FILES", (str(tmp_path / "device*"),)),
        lambda: (tmp_path / "device0").touch(),
        lambda: (tmp_path / "kernels-1.json").write_text("["),
        lambda: (tmp_path / "compiled").mkdir(),
        lambda: (tmp_path / "compiled").chmod(0o777),
    ]
    for count, change in enumerate(changes, start=2):
        change()
        diagnosis.diagnose()
        diagnosis.diagnose()
        assert len(reports) == count
    diagnosis.diagnose(refresh=True)
    assert len(reports) == len(changes) + 2


def test_a_report_with_problems_is_not_kept(reports, monkeypatch):
    broken = {"verdict": "1 thing needs attention", "failures": {}, "conflicts": [], "problems": ["no space left"]}
    monkeypatch.setattr(diagnosis, "_probe", lambda: reports.append(broken) or broken)
    diagnosis.diagnose()
    diagnosis.diagnose()
    assert len(reports) == 2


def test_without_a_home_folder_the_report_is_probed(reports, monkeypatch):
    for name in ("GANBLOCKS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "nowhere")
    diagnosis.diagnose()
    assert len(reports) == 1

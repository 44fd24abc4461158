"""Checkpoints of other libraries are read as data; a call in them is refused by name and never run."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from assemblies.unpickling.contents import contents_of
from assemblies.unpickling.files import read_file
from assemblies.unpickling.records import Record, RefusedError, UnreadableError, fields
from tests.assemblies.checkpoint_files import foreign, foreign_class, module_of, write_persistent

HOLDING = {
    "transposed": torch.arange(6.0).view(2, 3).t(),
    "parameter": nn.Parameter(torch.arange(3.0)),
    "bfloat16": torch.ones(2, dtype=torch.bfloat16),
    "integers": torch.tensor([[1], [2]]),
    "nothing": torch.zeros(0),
    "array": np.arange(6, dtype=">f4").reshape(2, 3),
    "number": np.float64(0.5),
    "options": argparse.Namespace(size=8, kernels=[[7], [7]], folder=Path("a/b")),
    "ordered": OrderedDict(a=1, b=(True, None, 2**80, b"bytes", 1j)),
    "set": {1, 2},
    "text": "größer",
    "shape": torch.Size([1, 2]),
    "generator": np.random.RandomState(0).get_state(),
}


def write(path, how):
    if how == "zip":
        torch.save(HOLDING, path)
    elif how == "legacy":
        torch.save(HOLDING, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(HOLDING, protocol=how))


@pytest.mark.parametrize("how", ["zip", "legacy", 0, 1, 2, 3, 4, 5])
def test_every_format_is_read_as_it_was_written(tmp_path, how):
    write(tmp_path / "file", how)
    checkpoint = read_file(tmp_path / "file")
    assert list(checkpoint) == list(HOLDING)
    for name in ("transposed", "parameter", "bfloat16", "integers", "nothing"):
        assert checkpoint[name].dtype == HOLDING[name].dtype
        assert torch.equal(checkpoint[name], HOLDING[name].detach())
    assert np.array_equal(checkpoint["array"], HOLDING["array"])
    assert fields(checkpoint["options"])["kernels"] == [[7], [7]]
    assert fields(checkpoint["options"])["folder"] == "a/b"
    assert checkpoint["generator"][1].tolist() == HOLDING["generator"][1].tolist()
    for name in ("number", "ordered", "set", "text", "shape"):
        assert checkpoint[name] == HOLDING[name]


def test_tensors_that_share_a_storage_are_read_correctly(tmp_path):
    whole = torch.arange(12.0)
    for old in (False, True):
        views = [whole, whole[3:9:2], whole.view(3, 4)[:, 1]]
        torch.save(views, tmp_path / "x", _use_new_zipfile_serialization=not old)
        checkpoint = read_file(tmp_path / "x")
        assert [each.tolist() for each in checkpoint] == [whole.tolist(), [3, 5, 7], [1, 5, 9]]


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_a_pickled_network_yields_its_state_dict_without_its_class(tmp_path, how):
    kind = foreign_class("somewhere.models", "Net")
    network = module_of({"a.weight": torch.ones(2, 3), "a.b.bias": torch.arange(2.0)}, kind)
    network.a.register_buffer("passing", torch.ones(1), persistent=False)
    network.layers = nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.utils.spectral_norm(nn.Conv1d(2, 2, 1)))
    expected = network.state_dict()
    with foreign(kind=kind):
        if how == "pickle":
            (tmp_path / "net").write_bytes(pickle.dumps(network))
        else:
            torch.save(network, tmp_path / "net", _use_new_zipfile_serialization=how == "zip")
    checkpoint = read_file(tmp_path / "net")
    assert isinstance(checkpoint, Record)
    assert checkpoint.name == "somewhere.models.Net"
    tensors = contents_of(checkpoint, "net").networks[""].tensors
    assert sorted(tensors) == sorted(expected)
    assert all(torch.equal(tensors[name], value) for name, value in expected.items())


class Calling:
    """Pickles as a call."""

    def __init__(self, function, *arguments, state=None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.call


def call_by_name(module, name, *arguments, protocol=2):
    """A pickle that calls something by name, whether or not that exists here."""
    body = b"\x80\x02c" + f"{module}\n{name}\n".encode()
    return body + pickle.dumps(arguments, protocol=2)[2:-1] + b"R."


@pytest.fixture
def trap(tmp_path):
    """A file that must not come to be, and the shell command that would make it."""
    marker = tmp_path / "was-run"
    yield f"touch {marker}"
    assert not marker.exists()


def refused(path):
    with pytest.raises(RefusedError) as caught:
        read_file(path)
    assert str(path) in str(caught.value)
    assert "nothing of the file was run" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle", "inside"])
def test_a_call_is_refused_by_name_in_every_format(tmp_path, trap, how):
    path, hostile = tmp_path / "x.pt", Calling(os.system, trap)
    if how == "zip":
        torch.save({"g_ema": {"a": torch.ones(1)}, "args": hostile}, path)
    elif how == "legacy":
        torch.save({"a": [hostile]}, path, _use_new_zipfile_serialization=False)
    elif how == "pickle":
        path.write_bytes(pickle.dumps({"G_ema": hostile}))
    else:  # as the bytes of a storage
        inner = io.BytesIO()
        torch.save(hostile, inner, _use_new_zipfile_serialization=False)
        path.write_bytes(call_by_name("torch.storage", "_load_from_bytes", inner.getvalue()))
    assert f"{os.system.__module__}.system" in refused(path)


NAMES = [
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("subprocess", "Popen"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("__builtin__", "eval"),
    ("builtins", "__import__"),
    ("builtins", "setattr"),
    ("importlib", "import_module"),
    ("runpy", "run_path"),
    ("pickle", "loads"),
    ("copyreg", "add_extension"),
    ("copy_reg", "constructor"),
    ("webbrowser", "open"),
    ("functools", "reduce"),
    ("operator", "attrgetter"),
    ("types", "FunctionType"),
    ("code", "interact"),
    ("torch", "load"),
    ("torch.hub", "load"),
    ("torch._utils", "_import_dotted_name"),
    ("torch._utils", "_rebuild_device_tensor_from_numpy"),
    ("torch.utils._config_module", "ConfigModule.load_config"),
    ("torch.serialization", "load"),
    ("torch.nn", "Linear"),
    ("numpy", "load"),
    ("numpy.testing._private.utils", "runstring"),
    ("dill._dill", "_eval_repr"),
    ("dill", "loads"),
    ("training.networks", "make"),
    ("builtins.eval", "__call__"),
]


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[".".join(each) for each in NAMES])
def test_no_function_is_called_by_name(tmp_path, module, name):
    path = tmp_path / "x.pkl"
    path.write_bytes(call_by_name(module, name, "1"))
    assert name in refused(path)
    path.write_bytes(
        call_by_name("functools", "partial", "1").replace(b"functools\npartial", f"{module}\n{name}".encode())
    )
    assert name in refused(path)


def test_the_result_of_a_call_is_not_called(tmp_path, trap):
    def stacked(*parts):
        return b"\x80\x02" + b"".join(parts) + b"."

    def text(value):
        return pickle.dumps(value, protocol=2)[2:-1]

    code = b"cdill._dill\n_create_function\n" + text(()) + b"R"
    module = b"cdill._dill\n_import_module\n" + text(("os",)) + b"R"
    system = b"cdill._dill\n_get_attr\n" + module + text("system") + b"\x86R"
    partial = b"cfunctools\npartial\n" + text((1,)) + b"R"
    attribute = b"cbuiltins\ngetattr\n" + module + text("system") + b"\x86R"
    for made in (code, system, partial, attribute):
        (tmp_path / "x").write_bytes(stacked(made, text((trap,)), b"R"))
        assert "made by the file itself" in refused(tmp_path / "x")
    (tmp_path / "x").write_bytes(stacked(b"cbuiltins\ngetattr\nctorch\nhub\n", text("load"), b"\x86R"))
    assert "builtins.getattr" in refused(tmp_path / "x")


def test_other_ways_of_making_objects_are_refused_too(tmp_path, trap):
    path = tmp_path / "x"
    argument = pickle.dumps((trap,), protocol=2)[2:-1]
    path.write_bytes(b"\x80\x02csubprocess\nPopen\n" + argument + b"\x81.")  # NEWOBJ
    assert "subprocess.Popen" in refused(path)
    path.write_bytes(b"\x80\x02cargparse\nNamespace\n)}" + b"\x92.")  # NEWOBJ_EX, harmless without options
    assert isinstance(read_file(path), Record)
    path.write_bytes(f"(S'{trap}'\nios\nsystem\n.".encode())  # INST
    assert "INST" in refused(path)
    path.write_bytes(f"(cos\nsystem\nS'{trap}'\no.".encode())  # OBJ
    assert "system" in refused(path)
    path.write_bytes(b"\x80\x02\x82\x01.")  # an extension by number
    assert "EXT1" in refused(path)


def test_only_records_take_state(tmp_path):
    (tmp_path / "x").write_bytes(b"\x80\x02ccollections\nOrderedDict\nN}U\x06updateK\x01s\x86b.")
    with pytest.raises(UnreadableError, match="takes no state"):
        read_file(tmp_path / "x")
    assert callable(OrderedDict.update)
    torch.save(torch.ones(2), tmp_path / "y", _use_new_zipfile_serialization=False)
    tensor = Calling(torch._utils._rebuild_tensor_v2, torch.ones(2).storage(), 0, (2,), (1,), False, {}, state={"a": 1})
    (tmp_path / "z").write_bytes(pickle.dumps(tensor))
    with pytest.raises(UnreadableError, match="a Tensor takes no state"):
        read_file(tmp_path / "z")


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (10**12,), (0,)), (0, (3,), (1,)), (-1, (1,), (1,)), (1, (2,), (1,)), (0, (2,), (-1,)), (0, (2, 2), (0, 1))],
)
def test_a_tensor_stays_within_its_storage(tmp_path, offset, size, stride):
    call = Calling(torch._utils._rebuild_tensor_v2, torch.ones(2).storage(), offset, size, stride, False, {})
    (tmp_path / "x").write_bytes(pickle.dumps(call))
    with pytest.raises(UnreadableError, match="does not lie within its storage of 2 numbers"):
        read_file(tmp_path / "x")


def test_arrays_hold_numbers_only(tmp_path):
    (tmp_path / "x").write_bytes(pickle.dumps(np.array([None, "a"], dtype=object)))
    with pytest.raises(UnreadableError, match="not numbers"):
        read_file(tmp_path / "x")


def test_source_code_in_a_pickle_is_ignored(tmp_path, trap):
    source = f"import os\nos.system({trap!r})\nclass Generator:\n    pass\n"
    write_persistent(tmp_path / "x.pkl", {"G_ema": ({"a.weight": torch.ones(2)}, {"z_dim": 8})}, source)
    stored = contents_of(read_file(tmp_path / "x.pkl"), "x").networks["G_ema"]
    assert stored.args == {"z_dim": 8}
    assert torch.equal(stored.tensors["a.weight"], torch.ones(2))


def test_a_truncated_file_is_reported_wherever_it_ends(tmp_path):
    for how in ("zip", "legacy", 2, 5):
        write(tmp_path / "whole", how)
        content = (tmp_path / "whole").read_bytes()
        for end in sorted({1, 2, 9, 30, *range(40, len(content) - 1, max(1, len(content) // 40)), len(content) - 1}):
            (tmp_path / "cut").write_bytes(content[:end])
            with pytest.raises(UnreadableError) as caught:
                read_file(tmp_path / "cut")
            assert str(tmp_path / "cut") in str(caught.value)


def test_damage_raises_no_other_errors(tmp_path):
    write(tmp_path / "whole", "legacy")
    content = bytearray((tmp_path / "whole").read_bytes())
    draws = np.random.RandomState(0)
    for _ in range(300):
        damaged = bytearray(content)
        for place in draws.randint(0, len(content), 3):
            damaged[place] = draws.randint(256)
        (tmp_path / "x").write_bytes(damaged)
        with suppress(RefusedError, UnreadableError):  # nothing else is raised
            read_file(tmp_path / "x")


def test_a_flipped_bit_in_a_zip_is_detected(tmp_path):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "x")
    content = bytearray((tmp_path / "x").read_bytes())
    content[len(content) // 2] ^= 4
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UnreadableError, match=r"CRC|damaged"):
        read_file(tmp_path / "x")


WRONG = {
    b"": "is empty",
    b"<!DOCTYPE html><html>": "a web page",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n": "a Git LFS pointer",
    b"\x1f\x8b\x08\x00": "decompress it first",
    b"\x89PNG\r\n\x1a\n": "an image",
    b"just some text": "not a checkpoint",
    b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f": "truncated",
}


@pytest.mark.parametrize("content", WRONG, ids=list(WRONG.values()))
def test_other_files_are_recognised(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(UnreadableError, match=WRONG[content]):
        read_file(tmp_path / "x.pt")


def test_other_archives_are_recognised(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.png", b"x")
    with pytest.raises(UnreadableError, match="but not of torch"):
        read_file(tmp_path / "photos.zip")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("x/data.pkl", b"x")
        archive.writestr("x/constants.pkl", b"x")
    with pytest.raises(UnreadableError, match="TorchScript"):
        read_file(tmp_path / "script.pt")
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"." * 10_000_000)
    with pytest.raises(UnreadableError, match="compressed"):
        read_file(tmp_path / "bomb.pt")
    with pytest.raises(UnreadableError, match="is a folder"):
        read_file(tmp_path)
    with pytest.raises(UnreadableError, match="does not exist"):
        read_file(tmp_path / "absent")


def test_a_storage_larger_than_the_file_is_not_made(tmp_path):
    torch.save(torch.ones(2), tmp_path / "x", _use_new_zipfile_serialization=False)
    content = (tmp_path / "x").read_bytes()
    claimed = content.replace(b"cpuq\x04K\x02", b"cpuq\x04J" + struct.pack("<i", 2**31 - 1))
    if claimed == content:  # torch wrote it in other words
        start = content.index(b"cpu")
        claimed = content[:start] + content[start:].replace(b"K\x02N", b"J" + struct.pack("<i", 2**31 - 1) + b"N", 1)
    assert claimed != content
    (tmp_path / "x").write_bytes(claimed)
    with pytest.raises(UnreadableError, match="bytes in a file of"):
        read_file(tmp_path / "x")


def test_other_safetensors_files_are_state_dicts(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    assert torch.equal(read_file(tmp_path / "x.safetensors")["a"], torch.ones(2))


def test_endless_nesting_is_an_error(tmp_path):
    from assemblies import CheckpointError
    from assemblies.conversion.read import import_network

    kind = foreign_class("a.b", "Net")
    inner = outer = kind()
    for _ in range(40):  # each holds the next twice: 2^40 modules for one who does not count
        outer, inner = kind(), outer
        outer.add_module("x", inner)
        outer.add_module("y", inner)
    endless = [1]
    for _ in range(40):
        endless = [endless, endless]
    with foreign(kind=kind):
        torch.save(outer, tmp_path / "modules.pt")
        torch.save({"g_ema": {"a": torch.ones(1)}, "args": {"x": endless}}, tmp_path / "options.pt")
        embed_weights = {}
        embed_weights["args"] = {"a": embed_weights}
        torch.save(embed_weights | {"g": {"a": torch.ones(1)}}, tmp_path / "own.pt")
    for name in ("modules", "options", "own"):
        with pytest.raises(CheckpointError, match=r"more than|without end"):
            import_network(tmp_path / f"{name}.pt")

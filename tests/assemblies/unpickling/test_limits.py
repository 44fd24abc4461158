"""Hostile files are refused quickly: nested and colliding keys, endless containers, copies, integers and archives.

They are read in a forked process with a memory limit, which a crash would end.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from assemblies import CheckpointError
from assemblies.conversion.read import import_network
from assemblies.unpickling.files import LEGACY, read_file
from ganblocks.worker import run_in_worker

MEMORY, SECONDS = 5 * 2**29, 300
PRIME = 2**61 - 1  # Python's hash of an integer is its remainder


def read(*paths: Path) -> list[tuple[float, str]]:
    """The seconds of the processor and the error that converting each file takes."""
    results = []
    for path in paths:
        start = time.process_time()
        with pytest.raises(CheckpointError) as error:
            import_network(path)
        results.append((time.process_time() - start, str(error.value)))
    return results


def complaints(*paths: Path) -> list[str]:
    """The errors that converting the files raises; each within 10 seconds."""
    results = run_in_worker(read, paths, "a hostile file ended the process", seconds=SECONDS, memory=MEMORY)
    for path, (seconds, message) in zip(paths, results, strict=True):
        assert seconds < 10, (path, message)
        assert path.name in message
        assert len(message) < 2000
        assert message.replace("\n", "").isprintable()
    return [message for _, message in results]


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def program(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


def doubled_tuple(times: int) -> bytes:
    """A tuple that contains another one twice, which contains a third one twice, and so on."""
    return b")" + b"2\x86" * times


def doubled_list(times: int) -> bytes:
    return b"]q\x01" + b"0](h\x01h\x01eq\x01" * times


DEEP_TUPLE = b")" + b"\x85" * 400_000
DEEP_FROZENSET = b"(" * 200_000 + b"\x91" * 200_000


def state(value: bytes) -> bytes:
    """A dictionary with a tensor and the value as options."""
    return b"}(" + text("args") + value + b"u"


def colliding(count: int) -> bytes:
    keys = b"".join(b"\x8a\x10" + (PRIME * index).to_bytes(16, "little") + b"N" for index in range(1, count))
    return b"}(" + keys + b"u"


def copies(constructor: str, element: bytes, count: int) -> bytes:
    """Many calls that copy one large object."""
    module, name = constructor.split(".")
    call = f"c{module}\n{name}\n".encode() + b"h\x01\x85R"
    return element + b"q\x010](" + call * count + b"e"


FILES: dict[str, Callable[[], bytes]] = {
    "a deep tuple as a key": lambda: program(b"}", DEEP_TUPLE, b"Ns"),
    "a deep tuple in a set": lambda: program(b"\x8f(", DEEP_TUPLE, b"\x90"),
    "a deep tuple in a set that a call makes": lambda: program(b"cbuiltins\nset\n](", DEEP_TUPLE, b"e\x85R"),
    "a deep tuple in a dictionary that a call makes": lambda: program(
        b"ccollections\nOrderedDict\n](](", DEEP_TUPLE, b"Nee\x85R"
    ),
    "deep frozensets": lambda: program(DEEP_FROZENSET),
    "a deep tuple as a persistent key": lambda: program(DEEP_TUPLE, b"Q"),
    "a doubling tuple as a key": lambda: program(b"}", doubled_tuple(60), b"Ns"),
    "a doubling list as options": lambda: program(state(doubled_list(60))),
    "a doubling list as a path": lambda: program(b"cpathlib\nPosixPath\n", doubled_list(60), b"\x85R"),
    "a doubling list as a device": lambda: program(b"ctorch\ndevice\n", doubled_list(60), b"\x85R"),
    "a doubling list as an encoding": lambda: program(b"c_codecs\nencode\n", text("a"), doubled_list(60), b"\x86R"),
    "a doubling list as text to encode": lambda: program(
        b"c_codecs\nencode\n", doubled_list(60), text("utf8"), b"\x86R"
    ),
    "a doubling list as a dtype": lambda: program(b"cnumpy\ndtype\n", doubled_list(60), b"\x85R"),
    "a doubling tuple as a dtype": lambda: program(b"cnumpy\ndtype\n", doubled_tuple(60), b"\x85R"),
    "a doubling list as a singular value": lambda: program(
        b"ca.b\nNet\n)\x81}(", text("_modules"), b"}", text("multiplier"), doubled_list(60), b"ub"
    ),
    "colliding integers": lambda: program(colliding(60_000)),
    "copies of a list": lambda: program(copies("builtins.list", b"](" + b"N" * 100_000 + b"e", 50_000)),
    "copies of a set": lambda: program(copies("builtins.frozenset", b"](" + b"N" * 100_000 + b"e", 50_000)),
    "copies of text": lambda: program(copies("_codecs.encode", text("a" * 500_000), 50_000)),
    "an integer of 100,000 digits": lambda: b"L" + b"1" * 100_000 + b"L\n.",
    "an integer of 100,000 bytes": lambda: program(b"\x8b" + struct.pack("<i", 100_000) + b"\x7f" * 100_000),
    "a name of a megabyte": lambda: program(b"ca." + b"b" * 1_000_000 + b"\nc\n)R"),
    "escape sequences in a name": lambda: program(b"cos\n\x1b]0;title\x07system\n)R"),
    "escape sequences in keys": lambda: program(b"}(" + text("\x1b[31m") + b"N" + text("\x07" * 900) + b"Nu"),
    "millions of instructions": lambda: program(b"]0" * 4_000_000, b"N"),
}


def test_hostile_pickles_are_refused_quickly(tmp_path: Path) -> None:
    paths = [tmp_path / f"{kind}.pkl" for kind in FILES]
    for path, make in zip(paths, FILES.values(), strict=True):
        path.write_bytes(make())
    complaints(*paths)


def test_storages_that_contain_each_other_are_refused(tmp_path: Path) -> None:
    content = b"x"
    for _ in range(40):
        call = b"ctorch.storage\n_load_from_bytes\n"
        push = b"B" + struct.pack("<I", len(content)) + content
        content = program(call + push + b"q\x01\x85R0", call + b"h\x01\x85R")
        content = b"\x80\x02" + LEGACY + b"." + content
    (tmp_path / "x.pkl").write_bytes(content)
    complaints(tmp_path / "x.pkl")


def test_storages_share_the_limits_of_their_file(tmp_path: Path) -> None:
    file = io.BytesIO()
    torch.save(torch.zeros(1).untyped_storage(), file, _use_new_zipfile_serialization=False)
    content = file.getvalue()
    file.seek(0)
    for _ in range(3):  # the pickles before that of the storage
        start = [position for _, _, position in pickletools.genops(file)][-1] + 1
    content = content[: start + 2] + b"N0" * 100_000 + content[start + 2 :]
    push = b"N0" * 40 + b"B" + struct.pack("<I", len(content)) + content + b"q\x010"
    call = b"ctorch.storage\n_load_from_bytes\nh\x01\x85R0"
    (tmp_path / "one.pkl").write_bytes(program(push, call, b"N"))
    (tmp_path / "many.pkl").write_bytes(program(push, call * 12, b"N"))
    assert "more than 2,000,000 instructions" in complaints(tmp_path / "many.pkl")[0]
    assert "no networks in a known layout; it holds a NoneType" in complaints(tmp_path / "one.pkl")[0]


def test_an_array_under_many_names_is_not_copied_for_each(tmp_path: Path) -> None:
    array = np.zeros(10_000_000, np.float32)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({f"a{index}": array for index in range(300)}, protocol=4))
    assert "has an unknown layout" in complaints(tmp_path / "x.pkl")[0]


def encrypted(path: Path) -> None:
    torch.save({"a": torch.ones(1)}, path)
    content = bytearray(path.read_bytes())
    start = 0
    while (start := content.find(b"PK\x01\x02", start)) >= 0:  # the flag "encrypted" of each entry in the directory
        content[start + 8] |= 1
        start += 4
    path.write_bytes(content)


def overlapping(path: Path) -> None:
    """An archive whose entries all refer to the same large member."""
    tensors = {f"a{index}": torch.full((250_000,), float(index)) for index in range(3)}
    torch.save(tensors, path)
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
    content = bytearray(path.read_bytes())
    start = 0
    while (start := content.find(b"PK\x01\x02", start)) >= 0:
        if b"/data/" in content[start : start + 200]:
            struct.pack_into("<I", content, start + 24, 2**30)
        start += 4
    path.write_bytes(content)
    assert largest.file_size == 1_000_000


@pytest.mark.parametrize(
    ("make", "message"), [(encrypted, "an encrypted zip archive"), (overlapping, "larger than the file")]
)
def test_a_hostile_archive_is_refused(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    make(tmp_path / "x.pt")
    assert message in complaints(tmp_path / "x.pt")[0]


def test_a_storage_that_the_file_does_not_list_is_reported(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    content = (tmp_path / "x.pt").read_bytes()
    start = content.rindex(b"\x80\x02]")  # the list of storages
    (tmp_path / "x.pt").write_bytes(content[:start] + b"\x80\x02].")
    assert "its list of storages is not that of its tensors" in complaints(tmp_path / "x.pt")[0]


def test_tuples_as_keys_become_text(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(pickle.dumps({(4, "a"): 1, 2**70: 2, True: 3, None: 4, 1.5: {(1, 2)}}))
    assert read_file(tmp_path / "x") == {"(4, a)": 1, str(2**70): 2, True: 3, None: 4, 1.5: {"(1, 2)"}}

"""Hostile checkpoints: programs that call functions, endless containers, damaged archives, and mutated real files."""

from __future__ import annotations

import io
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from assemblies.unpickling.files import LEGACY
from tests.assemblies.checkpoint_files import (
    fixture,
    state_of,
    write_by_reference,
    write_old_stylenat,
    write_persistent,
    write_stylenat,
)
from tests.assemblies.conversion.test_convert import STYLENAT, stylegan2_state
from tests.assemblies.unpickling.test_limits import (
    FILES,
    colliding,
    copies,
    doubled_list,
    doubled_tuple,
    encrypted,
    overlapping,
    program,
    text,
)
from tests.reliability.mutations import mutated

Make = Callable[[], bytes]
GEN16 = "styleformer/gen16"
CANARY = "CANARY"  # in the arguments below: the path of a file that no call may create

CALLS: dict[str, tuple[object, ...]] = {
    "os.system": ("touch CANARY",),
    "posix.system": ("touch CANARY",),
    "os.popen": ("touch CANARY",),
    "os.open": ("CANARY", 66),
    "os.mkdir": ("CANARY",),
    "subprocess.Popen": (["touch", "CANARY"],),
    "subprocess.check_output": (["touch", "CANARY"],),
    "builtins.exec": ("open('CANARY', 'w')",),
    "builtins.eval": ("open('CANARY', 'w')",),
    "builtins.open": ("CANARY", "w"),
    "builtins.__import__": ("antigravity",),
    "builtins.compile": ("open('CANARY', 'w')", "x", "exec"),
    "builtins.print": ("CANARY",),
    "builtins.input": (),
    "builtins.map": (),
    "io.open": ("CANARY", "w"),
    "_io.FileIO": ("CANARY", "w"),
    "codecs.open": ("CANARY", "w"),
    "pathlib.Path.touch": ("CANARY",),
    "importlib.import_module": ("antigravity",),
    "runpy.run_path": ("CANARY",),
    "pickle.loads": (b"cos\nsystem\n(S'touch CANARY'\ntR.",),
    "_pickle.loads": (b"cos\nsystem\n(S'touch CANARY'\ntR.",),
    "pty.spawn": (["touch", "CANARY"],),
    "timeit.timeit": ("open('CANARY', 'w')",),
    "webbrowser.open": ("http://example.com",),
    "socket.create_connection": (("example.com", 80),),
    "urllib.request.urlopen": ("http://example.com",),
    "shutil.copy": ("/etc/passwd", "CANARY"),
    "ctypes.CDLL": ("CANARY",),
    "functools.reduce": ([], []),
    "operator.attrgetter": ("system",),
    "operator.methodcaller": ("touch",),
    "sys.exit": (1,),
    "os._exit": (1,),
    "os.abort": (),
    "logging.config.listen": (9999,),
    "torch.load": ("CANARY",),
    "torch.save": ({}, "CANARY"),
    "torch.hub.load": ("evil/repository", "model"),
    "torch.hub.download_url_to_file": ("http://example.com", "CANARY"),
    "torch.jit.load": ("CANARY",),
    "torch.ops.load_library": ("CANARY",),
    "torch._utils._rebuild_parameter": ("CANARY",),
    "torch.utils.collect_env.run": ("touch CANARY",),
    "numpy.load": ("CANARY", None, True),
    "numpy.save": ("CANARY", 1),
    "numpy.f2py.crackfortran.getlincoef": ("open('CANARY', 'w')", {}),
    "numpy.testing._private.utils.runstring": ("open('CANARY', 'w')", {}),
    "dill.loads": (b"cos\nsystem\n(S'touch CANARY'\ntR.",),
    "dill._dill._import_module": ("antigravity",),
    "cloudpickle.loads": (b"cos\nsystem\n(S'touch CANARY'\ntR.",),
    "timm.create_model": ("resnet18", True),
    "huggingface_hub.hf_hub_download": ("evil/repository", "x"),
    "tests.reliability.checkpoints.CANARY": (),
    "copyreg.__newobj__": (),
    "types.FunctionType": (),
    "types.CodeType": (),
    "builtins.getattr": ("x", "system"),
    "builtins.type": ("x", (), {}),
}


def _arguments(values: tuple[object, ...], canary: str) -> bytes:
    """The arguments as the instructions that push them."""

    def filled(value: object) -> object:
        if isinstance(value, str):
            return value.replace(CANARY, canary)
        if isinstance(value, bytes):
            return value.replace(CANARY.encode(), canary.encode())
        return type(value)(map(filled, value)) if isinstance(value, list | tuple) else value

    return pickle.dumps(filled(values), protocol=2)[2:-1]


def as_called(name: str, values: tuple[object, ...], canary: str, form: str) -> bytes:
    """Instructions that call a function in one of the ways that pickle has."""
    module, _, attribute = name.rpartition(".")
    function = f"c{module}\n{attribute}\n".encode()
    arguments = _arguments(values, canary)
    return {
        "reduce": function + arguments + b"R",
        "stack-global": text(module) + text(attribute) + b"\x93" + arguments + b"R",
        "newobj": function + arguments + b"\x81",
        "newobj-ex": function + arguments + b"}\x92",
        "inst": b"(" + arguments + f"i{module}\n{attribute}\n".encode(),
        "obj": b"(" + function + arguments + b"o",
        "build": function + arguments + b"b",
        "setstate": b"cargparse\nNamespace\n)R}(" + text("__setstate__") + function + b"ub" + arguments + b"b",
        "tensor": b"ctorch._utils\n_rebuild_from_type_v2\n(" + function + function + arguments + b"}tR",
        "getattr": b"cbuiltins\ngetattr\n" + f"c{module}\n__name__\n".encode() + text(attribute) + b"\x86R",
        "partial": b"cfunctools\npartial\n" + function + b"\x85R" + arguments + b"R",
        "import": b"cdill._dill\n_import_module\n" + text(name) + b"\x85R" + arguments + b"R",
        "attribute": text(module.partition(".")[0])
        + text(f"{'.'.join([*module.split('.')[1:], attribute])}")
        + b"\x93"
        + arguments
        + b"R",
        "default": b"ccollections\ndefaultdict\n" + function + b"\x85R" + text("x") + b"Ns",
        "key": b"}" + function + arguments + b"RNs",
        "extension": b"\x82\x01" + arguments + b"R",
        "persistent": function + arguments + b"RQ",
    }[form]


FORMS = (
    *("reduce", "stack-global", "newobj", "newobj-ex", "inst", "obj", "build", "setstate", "tensor", "getattr"),
    *("partial", "import", "attribute", "default", "key", "extension", "persistent"),
)


def _plain(instructions: bytes) -> bytes:
    return program(instructions)


def _legacy(instructions: bytes) -> bytes:
    start = io.BytesIO()
    torch.save({}, start, _use_new_zipfile_serialization=False)
    head = start.getvalue()
    return head[: head.rindex(b"\x80\x02}q\x00.")] + program(instructions) + b"\x80\x02]q\x00."


def _zip(instructions: bytes) -> bytes:
    return _archive({"archive/data.pkl": program(instructions), "archive/byteorder": b"little"})


def _nested(instructions: bytes) -> bytes:
    """In the file of a storage inside a plain pickle."""
    content = b"\x80\x02" + LEGACY + b"." + program(instructions)
    return program(b"ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(content)) + content + b"\x85R")


CONTAINERS = (_plain, _legacy, _zip, _nested)


def _archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def _members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _written(write: Callable[[Path], None], folder: Path) -> bytes:
    path = folder / "written"
    write(path)
    return path.read_bytes()


def real_files(folder: Path) -> dict[str, bytes]:
    """Small checkpoints of each layout."""
    stylenat, legacy, styleformer = map(fixture, ("stylenat/generator-32", "stylenat/generator-16-legacy", GEN16))
    new, old = state_of(stylenat, **STYLENAT), state_of(legacy, **STYLENAT)
    writers: dict[str, Callable[[Path], None]] = {
        "stylenat": lambda path: write_stylenat(path, {"g": new, "g_ema": new}, stylenat.config["args"]),
        "old-stylenat": lambda path: write_old_stylenat(path, {"g": old, "g_ema": old}, legacy.config["args"]),
        "styleformer": lambda path: write_persistent(
            path, {"G_ema": (state_of(styleformer), styleformer.config["kwargs"])}, "raise SystemExit('was run')"
        ),
        "stylegan-t": lambda path: write_by_reference(path, {"D": state_of(fixture("stylegan_t/discriminator_cond"))}),
        "vitgan": lambda path: torch.save(state_of(fixture("vitgan/off-discriminator-32")), path),
        "stylegan2": lambda path: torch.save(stylegan2_state(), path, _use_new_zipfile_serialization=False),
        "safetensors": lambda path: save_file(dict(state_of(fixture("vitgan/off-discriminator-32"))), path),
    }
    return {name: _written(write, folder) for name, write in writers.items()}


def _mutated_member(content: bytes, random: random.Random) -> bytes:
    """A zip archive with a damaged pickle, whose checksums are right."""
    members = _members(content)
    name = next(name for name in members if name.endswith("data.pkl"))
    return _archive(members | {name: mutated(members[name], random)})


SNIPPETS = (
    *(b"N", b"]", b"}", b")", b"\x8f", b"(", b"t", b"l", b"d", b"e", b"u", b"s", b"a", b"0", b"1", b"2", b"R", b"b"),
    *(
        b"\x81",
        b"\x90",
        b"\x91",
        b"\x85",
        b"\x86",
        b"\x87",
        b"\x92",
        b"\x93",
        b"\x94",
        b"Q",
        b"K\x05",
        b"J\xff\xff\xff\xff",
    ),
    *(text("a"), text("_modules"), text("args"), b"C\x02ab", b"G" + b"\x7f\xf8" + b"\0" * 6, b"\x8a\x09" + b"\xff" * 9),
    *(b"q\x01", b"h\x01", b"q\x02", b"h\x02", b"cbuiltins\nlist\n", b"cbuiltins\ndict\n", b"ca.b\nNet\n"),
    *(b"ccollections\nOrderedDict\n", b"cbuiltins\nset\n", b"cbuiltins\ngetattr\n", b"cnumpy\ndtype\n"),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n", b"cnumpy.core.multiarray\n_reconstruct\n"),
    *(b"cnumpy.core.multiarray\nscalar\n", b"cpathlib\nPath\n", b"c_codecs\nencode\n", b"ctorch\nSize\n"),
    *(
        b"ccopyreg\n_reconstructor\n",
        b"cnumpy.core.numeric\n_frombuffer\n",
        b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n",
    ),
    *(b"cbuiltins\ncomplex\n", b"cbuiltins\nbytearray\n", b"ctorch\ndevice\n", b"ctorch.storage\n_load_from_bytes\n"),
)


def _random_program(random: random.Random) -> bytes:
    return program(*random.choices(SNIPPETS, k=random.choice((5, 20, 100, 1000))))


def _zips(real: dict[str, bytes], folder: Path) -> dict[str, Make]:
    members = _members(real["stylenat"])
    pickled = next(name for name in members if name.endswith("data.pkl"))
    root = pickled.removesuffix("data.pkl")
    storage = next(name for name in members if "/data/" in name)
    return {
        "encrypted": lambda: _written(encrypted, folder),
        "overlapping": lambda: _written(overlapping, folder),
        "compressed": lambda: _archive(members, zipfile.ZIP_DEFLATED),
        "a bomb": lambda: _archive({"a/data.pkl": b"\0" * 2**30}, zipfile.ZIP_DEFLATED),
        "a bomb of bzip2": lambda: _archive(members | {storage: b"\0" * 2**28}, zipfile.ZIP_BZIP2),
        "no pickle": lambda: _archive({name: content for name, content in members.items() if name != pickled}),
        "two pickles": lambda: _archive(members | {"other/data.pkl": members[pickled]}),
        "big-endian": lambda: _archive(members | {f"{root}byteorder": b"big"}),
        "TorchScript": lambda: _archive(members | {f"{root}constants.pkl": b""}),
        "a storage that is too short": lambda: _archive(members | {storage: b"123"}),
        "a storage of odd length": lambda: _archive(members | {storage: members[storage][:-1]}),
        "no storages": lambda: _archive({pickled: members[pickled]}),
        "names with ..": lambda: _archive({f"../../{name}": content for name, content in members.items()}),
        "absolute names": lambda: _archive({f"/tmp/{name}": content for name, content in members.items()}),
        "an escape sequence": lambda: _archive({f"\x1b]0;x\x07{name}": content for name, content in members.items()}),
        "100,000 members": lambda: _archive({f"{root}data/x{index}": b"" for index in range(50_000)} | members),
        "no directory": lambda: real["stylenat"][:-200],
        "twice": lambda: real["stylenat"] * 2,
        "only the end": lambda: b"PK\x03\x04" + b"PK\x05\x06" + bytes(18),
        "a long comment": lambda: real["stylenat"][:-2] + b"\xff\xff" + b"x" * 65535,
    }


def _others() -> dict[str, Make]:
    shared = {f"a{index}": np.zeros(1) for index in range(20)}
    wide = torch.zeros(1).expand(2**20, 2**10)
    return {
        "4,300 digits": lambda: b"I" + b"9" * 4300 + b"\n.",
        "4,301 digits": lambda: b"I" + b"9" * 4301 + b"\n.",
        "a long integer as text": lambda: b"L" + b"9" * 4301 + b"L\n.",
        "a doubling list in a list": lambda: program(b"](", doubled_list(60), doubled_tuple(60), b"e"),
        "colliding integers in a set": lambda: program(b"\x8f(", colliding(60_000)[2:-1].replace(b"N", b""), b"\x90"),
        "copies of bytes": lambda: program(
            copies("builtins.bytes", b"B" + struct.pack("<I", 500_000) + b"x" * 500_000, 50_000)
        ),
        "copies of an array": lambda: program(copies("builtins.bytearray", b"C\xff" + b"x" * 255, 500_000)),
        "an expanded tensor": lambda: _saved({"a": wide}),
        "NaN": lambda: _saved({"a": torch.full((3,), float("nan"))}),
        "a web page": lambda: b"<!DOCTYPE html>",
        "an LFS pointer": lambda: b"version https://git-lfs.github.com/spec/v1\n",
        "empty": lambda: b"",
        "zeros": lambda: b"\0" * 10**6,
        "one byte": lambda: b"\x80",
        "only a protocol": lambda: b"\x80\xff",
        "a claim of bytes": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**62),
        "a claim of text": lambda: b"\x80\x04\x8d" + struct.pack("<Q", 2**62),
        "a claim of an integer": lambda: b"\x80\x04\x8b" + struct.pack("<i", 2**31 - 1),
        "a memo of 2^31": lambda: program(b"Nr" + struct.pack("<I", 2**32 - 1)),
        "a frame of 2^62": lambda: b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
        "arrays of objects": lambda: pickle.dumps({"a": np.array([shared, None], dtype=object)}),
        "structured arrays": lambda: pickle.dumps({"a": np.zeros(3, dtype=[("x", "f4"), ("y", "O")])}),
        "an array of 2^60 numbers": lambda: program(
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01\x8a\x08"
            + struct.pack("<q", 2**60)
            + b"\x85cnumpy\ndtype\n"
            + text("f8")
            + b"\x85R\x89C\x08"
            + b"\0" * 8
            + b"tb"
        ),
        "safetensors of 2^60 bytes": lambda: (
            struct.pack("<Q", 100)
            + b'{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4]}}'.ljust(100)
            + b"\0" * 4
        ),
        "deep JSON in safetensors": lambda: struct.pack("<Q", 10**5) + b'{"a":' + b"[" * (10**5 - 5),
    }


def hostile_checkpoints(count: int, folder: Path, canary: Path, seed: int) -> list[tuple[str, Make]]:
    """So many files, by name; each name is the recipe. At most half of them are mutated or random.

    Args:
        count: Number of files.
        folder: A folder for temporary files.
        canary: The file that the calls in them would create.
        seed: Random seed.
    """
    chance = random.Random(seed)
    real = real_files(folder)
    cases: list[tuple[str, Make]] = [
        *FILES.items(),
        *((f"zip: {name}", make) for name, make in _zips(real, folder).items()),
        *_others().items(),
    ]
    for index, (name, values) in enumerate(CALLS.items()):
        for form in (FORMS[index % len(FORMS)], chance.choice(FORMS)):
            container = chance.choice(CONTAINERS)
            call = partial(as_called, name, values, str(canary), form)
            cases.append((f"{name} by {form} in {container.__name__[1:]}", lambda c=container, i=call: c(i())))  # type: ignore[misc]
    chance.shuffle(cases)
    cases = cases[: count - count // 4]
    while len(cases) < count:
        name, draw = chance.choice([*real]), random.Random(chance.random())
        kind = chance.randrange(3)
        if kind == 0:
            cases.append((f"random program {len(cases)}", partial(_random_program, draw)))
        elif kind == 1 and real[name].startswith(b"PK"):
            cases.append((f"{name}, damaged pickle {len(cases)}", partial(_mutated_member, real[name], draw)))
        else:
            cases.append((f"{name}, damaged {len(cases)}", partial(mutated, real[name], draw, [*real.values()])))
    return cases

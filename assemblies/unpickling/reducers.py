"""What a checkpoint's pickle may make: containers, numbers, NumPy arrays and torch tensors, all by code of ours."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assemblies.unpickling.pickles import Reducer
from assemblies.unpickling.records import Global, Record

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}
STORAGES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
    "Untyped": torch.uint8,
}


def storage_dtype(kind: Any) -> torch.dtype:
    """The dtype of a storage that a pickle names, such as torch.FloatStorage."""
    found = re.fullmatch(r"torch\.(?:cuda\.|storage\.)?(\w+)Storage", kind.name if isinstance(kind, Global) else "")
    if found is None or found[1] not in STORAGES:
        raise ValueError(f"no storage is called {kind!r}")
    return STORAGES[found[1]]


def make_tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    """A view of a storage (a tensor of one axis), if it lies within."""
    if not isinstance(storage, Tensor):
        raise ValueError("a tensor without storage")
    size, stride = tuple(map(int, size)), tuple(map(int, stride))
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    beyond = 0 not in size and last >= len(storage)
    if beyond or min((0, offset, *size, *stride)) < 0 or math.prod(size) > len(storage):
        raise ValueError(f"a tensor of shape {list(size)} does not lie within its storage of {len(storage)} numbers")
    return storage.as_strided(size, stride, offset)


def make_typed_tensor(
    storage: Any, offset: int, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> Tensor:
    wanted = DTYPES[dtype.name.removeprefix("torch.")]
    return make_tensor(storage.view(torch.uint8).view(wanted), offset, size, stride)


def make_parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise ValueError("a parameter without tensor")
    return data


def make_subclass(function: Any, kind: Any, arguments: Any, state: Any) -> Tensor:
    """A tensor that carries attributes; those are left behind."""
    if not isinstance(function, Global) or function.name not in TENSORS:
        raise ValueError(f"a tensor made by {function!r}")
    made: Tensor = TENSORS[function.name](*arguments)
    return made


TENSORS: dict[str, Reducer] = {
    "torch._utils._rebuild_tensor": make_tensor,
    "torch._utils._rebuild_tensor_v2": make_tensor,
    "torch._utils._rebuild_tensor_v3": make_typed_tensor,
    "torch._utils._rebuild_parameter": make_parameter,
    "torch._utils._rebuild_parameter_with_state": make_parameter,
}


def make_array_to_fill(kind: Any, shape: Any, code: Any) -> np.ndarray[Any, Any]:
    return np.ndarray((0,), np.int8)


def make_numpy_dtype(code: Any, *_: Any) -> np.dtype[Any]:
    if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?[biufc]\d{1,2}", code):
        raise ValueError(f"an array of {code!r}, which are no numbers")
    return np.dtype(code, copy=True)


def make_scalar(dtype: Any, content: Any) -> Any:
    raw = content.encode("latin-1") if isinstance(content, str) else content
    if not isinstance(dtype, np.dtype) or len(raw) != dtype.itemsize:
        raise ValueError("a damaged number")
    return np.frombuffer(raw, dtype)[0].item()


def make_from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    if not isinstance(dtype, np.dtype):
        raise ValueError("an array without dtype")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if order == "F" else "C")


def encode(text: Any, encoding: Any = "latin1") -> bytes:
    if str(encoding).replace("-", "").lower() not in ("latin1", "utf8", "ascii"):
        raise ValueError(f"bytes as {encoding!r}")
    return str(text).encode(encoding)


def of(kind: Callable[[Any], Any]) -> Reducer:
    """Makes a container of elements that a pickle has listed, or an empty one."""

    def make(elements: Any = ()) -> Any:
        if not isinstance(elements, list | tuple | set | frozenset | dict):
            raise ValueError(f"a {kind} of {type(elements).__name__}")
        return kind(elements)

    return make


def make_bytes(content: Any = b"", encoding: Any = "latin-1") -> bytes:
    return encode(content, encoding) if isinstance(content, str) else b"".join([content])


def make_default_dict(*_: Any) -> dict[Any, Any]:
    return {}


def make_path(*parts: Any) -> str:
    return "/".join(map(str, parts))


def make_instance(made: Any, base: Any, state: Any) -> Record:
    """An object as the oldest pickles write it: class, built-in base, and that base's value."""
    if not isinstance(made, Global) or made.name in REDUCERS or made.name.startswith("builtins."):
        raise ValueError(f"an object of {made!r}")
    record = Record(made.name)
    if isinstance(state, dict):
        record.entries = state
    elif isinstance(state, list | tuple | set):
        record.elements = list(state)
    return record


def make_persistent(about: Any) -> Record:
    """An object of a class whose source text lies in the pickle (StyleGAN2-ADA's way): the source is left aside."""
    told = about.entries if isinstance(about, Record) else about
    if not isinstance(told, dict) or "state" not in told or "class_name" not in told:
        raise ValueError("a class with its source, but without name or state")
    record = Record(f"torch_utils.persistence.{told['class_name']}")
    record.state = told["state"]
    return record


def make_attribute(owner: Any, name: Any, *default: Any) -> Any:
    """A bound method of an object in the file stays a record; of a module, only what dill itself asks for."""
    if isinstance(owner, Record):
        return Record(f"{owner.name}.{name}")
    if isinstance(owner, Global) and owner.name == "dill._dill" and name == "_setattr":
        return Global("dill._dill._setattr")
    return NotImplemented


def not_called(*_: Any) -> Any:
    """Of what a file may name, as dill does, but never call."""
    return NotImplemented


def make_device(*parts: Any) -> str:
    return ":".join(map(str, parts))


def make_complex(real: Any = 0.0, imaginary: Any = 0.0) -> complex:
    return complex(float(real), float(imaginary))


PATHS: dict[str, Reducer] = {
    f"pathlib.{kind}": make_path for kind in ("Path", "PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath")
}
REDUCERS: dict[str, Reducer] = {
    **TENSORS,
    "torch._utils._rebuild_from_type_v2": make_subclass,
    "torch.Size": of(tuple),
    "torch.device": make_device,
    "numpy.core.multiarray._reconstruct": make_array_to_fill,
    "numpy.core.multiarray.scalar": make_scalar,
    "numpy.core.numeric._frombuffer": make_from_buffer,
    "numpy.dtype": make_numpy_dtype,
    "builtins.bytearray": make_bytes,
    "builtins.bytes": make_bytes,
    "builtins.complex": make_complex,
    "builtins.dict": of(dict),
    "builtins.frozenset": of(frozenset),
    "builtins.getattr": make_attribute,
    "builtins.list": of(list),
    "builtins.set": of(set),
    "builtins.setattr": not_called,
    "builtins.tuple": of(tuple),
    "collections.OrderedDict": of(OrderedDict),
    "collections.defaultdict": make_default_dict,
    "copyreg._reconstructor": make_instance,
    "_codecs.encode": encode,
    "torch_utils.persistence._reconstruct_persistent_obj": make_persistent,
    **PATHS,
}

# A network that was pickled whole brings functions and types along, as hooks and activations. They stay records, and
# so does code that dill wrote out; nobody ever calls a record.
INERT = frozenset(
    [
        "argparse.Namespace",
        "builtins.NoneType",
        "builtins.__main__",  # how dill writes the names of a script
        "builtins.bool",
        "builtins.float",
        "builtins.int",
        "builtins.object",
        "builtins.range",
        "builtins.slice",
        "builtins.str",
        "functools.partial",
        "dill._dill._create_array",
        "dill._dill._create_cell",
        "dill._dill._create_code",
        "dill._dill._create_function",
        "dill._dill._create_namedtuple",
        "dill._dill._create_type",
        "dill._dill._get_attr",
        "dill._dill._import_module",
        "dill._dill._load_type",
        "dill._dill._setattr",
    ]
)

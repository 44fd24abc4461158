"""The functions that make objects of a pickle: containers, numbers, NumPy arrays and torch tensors."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assemblies.unpickling.limits import as_key, check_name
from assemblies.unpickling.pickles import Reducer
from assemblies.unpickling.records import Global, Record, describe

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
    """The dtype of a storage class, such as torch.FloatStorage."""
    match = re.fullmatch(r"torch\.(?:cuda\.|storage\.)?(\w+)Storage", kind.name if isinstance(kind, Global) else "")
    if match is None or match[1] not in STORAGES:
        raise ValueError(f"unknown storage {describe(kind)}")
    return STORAGES[match[1]]


def make_tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    """A view of a storage, which is a tensor of one axis; ValueError where it does not lie within the storage."""
    if not isinstance(storage, Tensor):
        raise ValueError("a tensor has no storage")
    size, stride = tuple(map(int, size)), tuple(map(int, stride))
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    beyond = 0 not in size and last >= len(storage)
    if beyond or min((0, offset, *size, *stride)) < 0 or math.prod(size) > len(storage):
        raise ValueError(f"a tensor of shape {list(size)} does not lie within its storage of {len(storage)} numbers")
    return storage.as_strided(size, stride, offset)


def make_typed_tensor(
    storage: Any, offset: int, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> Tensor:
    if not isinstance(storage, Tensor) or not isinstance(dtype, Global):
        raise ValueError("a tensor has no storage or no dtype")
    view = storage.view(torch.uint8).view(DTYPES[dtype.name.removeprefix("torch.")])
    return make_tensor(view, offset, size, stride)


def make_parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise ValueError("a parameter has no tensor")
    return data


def make_subclass(function: Any, kind: Any, arguments: Any, state: Any) -> Tensor:
    """A tensor with attributes; these are dropped."""
    if not isinstance(function, Global) or function.name not in TENSORS:
        raise ValueError(f"a tensor made by {describe(function)}")
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
        raise ValueError(f"an array of dtype {describe(code)}, which are not numbers")
    return np.dtype(code, copy=True)


def make_scalar(dtype: Any, content: Any) -> Any:
    raw = content.encode("latin-1") if isinstance(content, str) else content
    if not isinstance(dtype, np.dtype) or len(raw) != dtype.itemsize:
        raise ValueError("a number has the wrong size")
    return np.frombuffer(raw, dtype)[0].item()


def make_from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    if not isinstance(dtype, np.dtype):
        raise ValueError("an array has no dtype")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if order == "F" else "C")


def encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or not isinstance(encoding, str):
        raise ValueError(f"{describe(text)} in the encoding {describe(encoding)}")
    if encoding.replace("-", "").lower() not in ("latin1", "utf8", "ascii"):
        raise ValueError(f"text in the encoding {describe(encoding)}")
    return text.encode(encoding)


def sequence(kind: Callable[[Any], Any]) -> Reducer:
    """A function that makes a list or tuple of elements that a pickle lists, or an empty one."""

    def make(elements: Any = ()) -> Any:
        return kind(_elements(elements))

    return make


def hashed(kind: Callable[[Any], Any]) -> Reducer:
    """The same for a set."""

    def make(elements: Any = ()) -> Any:
        return kind(map(as_key, _elements(elements)))

    return make


def mapping(kind: Callable[[Any], Any]) -> Reducer:
    """The same for a dictionary, from another one or from pairs."""

    def make(elements: Any = ()) -> Any:
        pairs = elements.items() if isinstance(elements, dict) else _elements(elements)
        return kind((as_key(key), value) for key, value in pairs)

    return make


def _elements(elements: Any) -> Any:
    if not isinstance(elements, list | tuple | set | frozenset | dict):
        raise ValueError(f"a container of {describe(elements)}")
    return elements


def make_bytes(content: Any = b"", encoding: Any = "latin-1") -> bytes:
    return encode(content, encoding) if isinstance(content, str) else b"".join([content])


def make_default_dict(*_: Any) -> dict[Any, Any]:
    return {}


def make_path(*parts: Any) -> str:
    return "/".join(map(check_name, parts))


def make_instance(kind: Any, base: Any, state: Any) -> Record:
    """An object in the oldest protocols: its class, the built-in base class, and the value of the latter."""
    if not isinstance(kind, Global) or kind.name in REDUCERS or kind.name.startswith("builtins."):
        raise ValueError(f"an object of {describe(kind)}")
    record = Record(kind.name)
    if isinstance(state, dict):
        record.entries = state
    elif isinstance(state, list | tuple | set):
        record.elements = list(state)
    return record


def make_persistent(content: Any) -> Record:
    """An object whose class's source code is in the pickle, as in StyleGAN2-ADA; the source is ignored."""
    entries = content.entries if isinstance(content, Record) else content
    if not isinstance(entries, dict) or "state" not in entries or "class_name" not in entries:
        raise ValueError("an object with its class's source, but without state or class_name")
    record = Record(f"torch_utils.persistence.{check_name(entries['class_name'])}")
    record.state = entries["state"]
    return record


def make_attribute(owner: Any, name: Any, *default: Any) -> Any:
    """A bound method of an object in the file becomes a record; of a module, only what dill writes is allowed."""
    if isinstance(owner, Record):
        return Record(check_name(f"{owner.name}.{check_name(name)}"))
    if isinstance(owner, Global) and owner.name == "dill._dill" and name == "_setattr":
        return Global("dill._dill._setattr")
    return NotImplemented


def refuse(*_: Any) -> Any:
    """For functions that dill names but never calls."""
    return NotImplemented


def make_device(*parts: Any) -> str:
    return ":".join(str(part) if isinstance(part, int) else check_name(part) for part in parts)


def make_complex(real: Any = 0.0, imaginary: Any = 0.0) -> complex:
    return complex(float(real), float(imaginary))


PATHS: dict[str, Reducer] = {
    f"pathlib.{kind}": make_path for kind in ("Path", "PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath")
}
REDUCERS: dict[str, Reducer] = {
    **TENSORS,
    "torch._utils._rebuild_from_type_v2": make_subclass,
    "torch.Size": sequence(tuple),
    "torch.device": make_device,
    "numpy.core.multiarray._reconstruct": make_array_to_fill,
    "numpy.core.multiarray.scalar": make_scalar,
    "numpy.core.numeric._frombuffer": make_from_buffer,
    "numpy.dtype": make_numpy_dtype,
    "builtins.bytearray": make_bytes,
    "builtins.bytes": make_bytes,
    "builtins.complex": make_complex,
    "builtins.dict": mapping(dict),
    "builtins.frozenset": hashed(frozenset),
    "builtins.getattr": make_attribute,
    "builtins.list": sequence(list),
    "builtins.set": hashed(set),
    "builtins.setattr": refuse,
    "builtins.tuple": sequence(tuple),
    "collections.OrderedDict": mapping(OrderedDict),
    "collections.defaultdict": make_default_dict,
    "copyreg._reconstructor": make_instance,
    "_codecs.encode": encode,
    "torch_utils.persistence._reconstruct_persistent_obj": make_persistent,
    **PATHS,
}

# A network that was pickled whole contains functions and types, as hooks and activations, and dill writes out code.
# These calls become records, which are never called.
INERT = frozenset(
    [
        "argparse.Namespace",
        "builtins.NoneType",
        "builtins.__main__",  # dill's name for the module of a script
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

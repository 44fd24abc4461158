"""Reads a pickle as data: what it names is neither imported nor called, and a call that is not known is refused.

A pickle is a program for a small stack machine, and `pickle.load` runs whatever function the program names. This is
the same machine without that ability. Tensors, arrays and containers are made by code of ours (`makers.py`); an object
of a foreign class, such as a whole network with its layers, stays a `Record`: the name of its class and its state.
"""

from __future__ import annotations

import pickletools
import sys
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

from assemblies.model_file import CheckpointError
from assemblies.unpickling.records import Global, Record, RefusedError, UnreadableError

Reducer = Callable[..., Any]
LOADED_TYPE = "dill._dill._load_type"


class Mark:
    """The stack's mark."""


def read_pickle(
    file: IO[bytes],
    makers: Mapping[str, Reducer],
    inert: frozenset[str],
    persistent: Reducer | None = None,
    subject: str = "the file",
) -> Any:
    """The object of one pickle; `file` is left behind its end.

    Args:
        file: Where the pickle starts.
        makers: What is made, by the name that the pickle calls; nothing else is called.
        inert: Names whose call stays a record: functions and types that came along with a network.
        persistent: Gives the object of a reference to outside the pickle, such as to a tensor's storage.
        subject: What errors call the file.

    Raises:
        RefusedError: The pickle would call something else, which the message names.
        UnreadableError: It is cut short or no pickle.
    """
    machine = Machine(makers, inert, persistent, subject)
    try:
        for opcode, argument, place in pickletools.genops(file):
            machine.place = place or 0
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.step(opcode.name, argument)
    except CheckpointError:
        raise
    except Exception as error:  # each way in which a damaged program can fail
        fact = "it takes up what it never put down" if isinstance(error, LookupError) else str(error)
        said = f"{subject} is damaged, cut short or no checkpoint: {fact} (byte {machine.place})"
        raise UnreadableError(said) from None
    raise UnreadableError(f"{subject} is cut short: the pickle in it does not end")


NUMBERS = "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT"
TEXTS = "STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8"
PUSHED = {*NUMBERS.split(), *TEXTS.split(), "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
EMPTY: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
    "MARK": Mark,
}


class Machine:
    """The stack machine; see `read_pickle`."""

    def __init__(
        self, makers: Mapping[str, Reducer], inert: frozenset[str], persistent: Reducer | None, subject: str
    ) -> None:
        self.makers, self.inert, self.persistent, self.subject = makers, inert, persistent, subject
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.place = 0

    def step(self, name: str, argument: Any) -> None:
        """Do one instruction."""
        if name in PUSHED:
            self.stack.append(argument)
        elif make := EMPTY.get(name):
            self.stack.append(make())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self.stack.append(tuple(self.take(int(name[-1]))))
        elif name not in ("PROTO", "FRAME"):
            act = getattr(self, f"do_{name.lower()}", None)
            if act is None:
                raise self.refuse(f"the instruction {name}, which no checkpoint uses")
            act(argument)

    def until_mark(self) -> list[Any]:
        found: list[Any] = []
        while not isinstance(top := self.stack.pop(), Mark):
            found.append(top)
        return found[::-1]

    def take(self, count: int) -> list[Any]:
        found = self.stack[-count:]
        if len(found) < count:
            raise ValueError("nothing on the stack")
        del self.stack[-count:]
        return found

    def refuse(self, name: str) -> RefusedError:
        return RefusedError(
            f"{self.subject} is refused: it would run {name} (byte {self.place}). A checkpoint holds tensors and "
            "settings and needs no such call; nothing of the file was run"
        )

    # what the instructions do

    def do_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_pop(self, _: Any) -> None:
        self.stack.pop()

    def do_pop_mark(self, _: Any) -> None:
        self.until_mark()

    def do_dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def do_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.until_mark()))

    def do_list(self, _: Any) -> None:
        self.stack.append(self.until_mark())

    def do_dict(self, _: Any) -> None:
        self.stack.append(pairs(self.until_mark()))

    def do_frozenset(self, _: Any) -> None:
        self.stack.append(frozenset(self.until_mark()))

    def do_append(self, _: Any) -> None:
        [value] = self.take(1)
        extend(self.stack[-1], [value])

    def do_appends(self, _: Any) -> None:
        values = self.until_mark()
        extend(self.stack[-1], values)

    do_additems = do_appends

    def do_setitem(self, _: Any) -> None:
        given = pairs(self.take(2))
        update(self.stack[-1], given)

    def do_setitems(self, _: Any) -> None:
        given = pairs(self.until_mark())
        update(self.stack[-1], given)

    def do_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(self.named(module, name))

    def do_stack_global(self, _: Any) -> None:
        module, name = self.take(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name is not text")
        self.stack.append(self.named(module, name))

    def named(self, module: str, name: str) -> Global:
        """What a pickle mentions by name; a name of Python's own library has to be one of those we know."""
        top, _, rest = module.partition(".")
        module = RENAMED.get(top, top) + (f".{rest}" if rest else "")
        full = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        standard = top in sys.stdlib_module_names or top in RENAMED
        if standard and full not in self.makers and full not in self.inert:
            raise self.refuse(f"{module}.{name}")
        return Global(full)

    def do_reduce(self, _: Any) -> None:
        called, arguments = self.take(2)
        self.stack.append(self.call(called, arguments))

    def call(self, called: Any, arguments: Any) -> Any:
        if isinstance(called, Record) and called.name == LOADED_TYPE:  # dill's word for a type such as MethodType
            return Record(f"types.{called.args[0]}", arguments)
        if not isinstance(called, Global):
            raise self.refuse(f"{briefly(called)}, which the file itself makes")
        if not isinstance(arguments, tuple):
            raise ValueError(f"arguments of {called.name} are no tuple")
        if maker := self.makers.get(called.name):
            made = maker(*arguments)
            if made is NotImplemented:
                raise self.refuse(f"{called.name}({', '.join(map(briefly, arguments))})")
            return made
        if called.name in self.inert:
            return Record(called.name, arguments)
        raise self.refuse(called.name)

    def do_newobj(self, _: Any) -> None:
        made, arguments = self.take(2)
        self.stack.append(self.instance(made, arguments))

    def do_newobj_ex(self, _: Any) -> None:
        made, arguments, options = self.take(3)
        if options:
            raise self.refuse(f"{briefly(made)} with options")
        self.stack.append(self.instance(made, arguments))

    def instance(self, made: Any, arguments: Any) -> Any:
        """An object whose class's `__init__` a pickle does not call: a record, unless we know the class."""
        if isinstance(made, Global) and made.name in self.makers:
            return self.call(made, arguments)
        if not isinstance(made, Global) or made.name.partition(".")[0] in sys.stdlib_module_names - {"argparse"}:
            raise self.refuse(briefly(made))
        return Record(made.name, tuple(arguments))

    def do_build(self, _: Any) -> None:
        [state] = self.take(1)
        made = self.stack[-1]
        if isinstance(made, Record):
            made.state = state
        elif isinstance(made, np.ndarray):
            set_array(made, state)
        elif isinstance(made, np.dtype):
            set_byte_order(made, state)
        elif not isinstance(made, dict):  # of a dictionary, such as a state dict, these are remarks of torch's
            raise ValueError(f"a {type(made).__name__} takes no state")

    def do_binpersid(self, _: Any) -> None:
        [reference] = self.take(1)
        if self.persistent is None:
            raise UnreadableError(f"{self.subject} refers to data outside of it (byte {self.place})")
        self.stack.append(self.persistent(reference))

    def do_persid(self, argument: str) -> None:
        self.stack.append(argument)
        self.do_binpersid(None)


RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # as Python 2 called them


def briefly(value: Any) -> str:
    """What an error says of an object; a list may hold itself a million times."""
    if isinstance(value, Global | Record):
        return value.name
    return repr(value[:40]) if isinstance(value, str) else f"a {type(value).__name__}"


def pairs(values: list[Any]) -> dict[Any, Any]:
    return dict(zip(values[::2], values[1::2], strict=True))


def update(target: Any, given: dict[Any, Any]) -> None:
    if not isinstance(target, Record | dict):
        raise ValueError(f"a {type(target).__name__} takes no entries")
    (target.entries if isinstance(target, Record) else target).update(given)


def extend(target: Any, values: list[Any]) -> None:
    if isinstance(target, Record):
        target.elements.extend(values)
    elif isinstance(target, set):
        target.update(values)
    elif isinstance(target, list):
        target.extend(values)
    else:
        raise ValueError(f"a {type(target).__name__} takes no elements")


def set_array(array: np.ndarray[Any, Any], state: Any) -> None:
    _, shape, dtype, _, content = state
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biufc" or not isinstance(content, bytes | str):
        raise ValueError("an array of something else than numbers")
    raw = content.encode("latin-1") if isinstance(content, str) else content
    array.__setstate__((1, tuple(int(size) for size in shape), dtype, bool(state[3]), raw))  # type: ignore[arg-type]


def set_byte_order(dtype: np.dtype[Any], state: Any) -> None:
    if state[1] not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
        raise ValueError("a structured array")
    dtype.__setstate__((3, state[1], None, None, None, -1, -1, 0))  # type: ignore[attr-defined]

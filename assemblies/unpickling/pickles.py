"""Reads a pickle as data: nothing that it names is imported or called, and an unknown call is refused.

A pickle is a program for a stack machine, and `pickle.load` runs whatever function the program names. This machine runs
the same programs, but makes tensors, arrays and containers by its own functions (`reducers.py`) only. An object of any
other class, such as a layer of a network that was pickled whole, becomes a `Record` of its class's name and its state.
"""

from __future__ import annotations

import pickletools
import sys
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

from assemblies.model_file import CheckpointError
from assemblies.unpickling.containers import extend, pairs, set_array, set_byte_order, update
from assemblies.unpickling.limits import Limits, as_key, check_integer, check_name
from assemblies.unpickling.records import Global, Record, RefusedError, UnreadableError, describe
from registry.text import excerpt

Reducer = Callable[..., Any]
DILL_TYPE = "dill._dill._load_type"


class Mark:
    """Marks a position on the stack: the start of a container's elements."""


def read_pickle(
    file: IO[bytes],
    limits: Limits,
    reducers: Mapping[str, Reducer],
    inert: frozenset[str],
    load_persistent: Reducer | None = None,
    subject: str = "the file",
) -> Any:
    """The object of one pickle; afterwards `file` is positioned behind the pickle.

    Args:
        file: Positioned at the pickle.
        limits: Limits on what the pickle may cost, shared by all pickles of a file.
        reducers: The functions that make objects, by the names that pickles call; nothing else is called.
        inert: Names of functions and types whose calls become records.
        load_persistent: The object of a reference to outside the pickle, such as to a tensor's storage.
        subject: Name of the file in errors.

    Raises:
        RefusedError: The pickle would call another function; the message names it.
        UnreadableError: It is truncated, not a pickle, or exceeds the limits.
    """
    machine = StackMachine(limits, reducers, inert, load_persistent, subject)
    try:
        for opcode, argument, position in pickletools.genops(file):
            machine.position = position or 0
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.step(opcode.name, argument)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged program can fail in any way
        fact = "an object is missing on the stack" if isinstance(error, LookupError) else excerpt(error, 300)
        message = f"{subject} is damaged, truncated or not a checkpoint: {fact} (byte {machine.position})"
        raise UnreadableError(message) from None
    raise UnreadableError(f"{subject} is truncated: its pickle has no end")


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


class StackMachine:
    """The machine that pickles are programs of; see `read_pickle`."""

    def __init__(
        self,
        limits: Limits,
        reducers: Mapping[str, Reducer],
        inert: frozenset[str],
        load_persistent: Reducer | None,
        subject: str,
    ) -> None:
        self.limits = limits
        self.reducers, self.inert, self.load_persistent, self.subject = reducers, inert, load_persistent, subject
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.position = 0

    def step(self, name: str, argument: Any) -> None:
        """Execute one instruction."""
        self.limits.count_instruction()
        if name in PUSHED:
            self.stack.append(check_integer(argument) if isinstance(argument, int) else argument)
        elif constructor := EMPTY.get(name):
            self.stack.append(constructor())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self.stack.append(tuple(self.take(int(name[-1]))))
        elif name not in ("PROTO", "FRAME"):
            execute = getattr(self, f"do_{name.lower()}", None)
            if execute is None:
                raise self.refuse(f"the instruction {name}, which no checkpoint uses")
            execute(argument)

    def pop_to_mark(self) -> list[Any]:
        elements: list[Any] = []
        while not isinstance(top := self.stack.pop(), Mark):
            elements.append(top)
        return elements[::-1]

    def take(self, count: int) -> list[Any]:
        elements = self.stack[-count:]
        if len(elements) < count:
            raise ValueError("the stack is empty")
        del self.stack[-count:]
        return elements

    def refuse(self, name: str) -> RefusedError:
        fact = f"{self.subject} is refused: it would run {excerpt(name)} (byte {self.position})"
        return RefusedError(f"{fact}. A checkpoint holds data and needs no such call; nothing of the file was run")

    # one method per instruction

    def do_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_pop(self, _: Any) -> None:
        self.stack.pop()

    def do_pop_mark(self, _: Any) -> None:
        self.pop_to_mark()

    def do_dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def do_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.pop_to_mark()))

    def do_list(self, _: Any) -> None:
        self.stack.append(self.pop_to_mark())

    def do_dict(self, _: Any) -> None:
        self.stack.append(pairs(self.pop_to_mark()))

    def do_frozenset(self, _: Any) -> None:
        self.stack.append(frozenset(map(as_key, self.pop_to_mark())))

    def do_append(self, _: Any) -> None:
        [value] = self.take(1)
        extend(self.stack[-1], [value])

    def do_appends(self, _: Any) -> None:
        values = self.pop_to_mark()
        extend(self.stack[-1], values)

    do_additems = do_appends

    def do_setitem(self, _: Any) -> None:
        entries = pairs(self.take(2))
        update(self.stack[-1], entries)

    def do_setitems(self, _: Any) -> None:
        entries = pairs(self.pop_to_mark())
        update(self.stack[-1], entries)

    def do_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(self.resolve(module, name))

    def do_stack_global(self, _: Any) -> None:
        module, name = self.take(2)
        self.stack.append(self.resolve(module, name))

    def resolve(self, module: str, name: str) -> Global:
        """A global by name; one of Python's standard library must be among the known names."""
        check_name(module), check_name(name)
        top, _, rest = module.partition(".")
        module = RENAMED.get(top, top) + (f".{rest}" if rest else "")
        full = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        standard = top in sys.stdlib_module_names or top in RENAMED
        if standard and full not in self.reducers and full not in self.inert:
            raise self.refuse(f"{module}.{name}")
        return Global(full)

    def do_reduce(self, _: Any) -> None:
        function, arguments = self.take(2)
        self.stack.append(self.call(function, arguments))

    def call(self, function: Any, arguments: Any) -> Any:
        """The object that a reducer makes, or a record of an inert call."""
        if isinstance(function, Record) and function.name == DILL_TYPE:  # a type that dill names, such as MethodType
            return Record(f"types.{check_name(function.args[0])}", arguments)
        if not isinstance(function, Global):
            raise self.refuse(f"{describe(function)} made by the file itself")
        if not isinstance(arguments, tuple):
            raise ValueError(f"the arguments of {function.name} are not a tuple")
        if reducer := self.reducers.get(function.name):
            self.limits.count_copies(*arguments)
            made = reducer(*arguments)
            if made is NotImplemented:
                raise self.refuse(f"{function.name}({', '.join(map(describe, arguments))})")
            return made
        if function.name in self.inert:
            return Record(function.name, arguments)
        raise self.refuse(function.name)

    def do_newobj(self, _: Any) -> None:
        kind, arguments = self.take(2)
        self.stack.append(self.instance(kind, arguments))

    def do_newobj_ex(self, _: Any) -> None:
        kind, arguments, options = self.take(3)
        if options:
            raise self.refuse(f"{describe(kind)} with keyword arguments")
        self.stack.append(self.instance(kind, arguments))

    def instance(self, kind: Any, arguments: Any) -> Any:
        """An object without a call of its class's `__init__`: a record, except for classes that reducers make."""
        if isinstance(kind, Global) and kind.name in self.reducers:
            return self.call(kind, arguments)
        if not isinstance(kind, Global) or kind.name.partition(".")[0] in sys.stdlib_module_names - {"argparse"}:
            raise self.refuse(describe(kind))
        if not isinstance(arguments, tuple):
            raise ValueError(f"the arguments of {kind.name} are not a tuple")
        return Record(kind.name, arguments)

    def do_build(self, _: Any) -> None:
        [state] = self.take(1)
        made = self.stack[-1]
        if isinstance(made, Record):
            made.state = state
        elif isinstance(made, np.ndarray):
            self.limits.count_copies(*state)
            set_array(made, state)
        elif isinstance(made, np.dtype):
            set_byte_order(made, state)
        elif not isinstance(made, dict):  # a dictionary's state is torch's annotation of a state dict
            raise ValueError(f"a {type(made).__name__} takes no state")

    def do_binpersid(self, _: Any) -> None:
        [reference] = self.take(1)
        if self.load_persistent is None:
            raise UnreadableError(f"{self.subject} refers to data outside of it (byte {self.position})")
        self.stack.append(self.load_persistent(reference))

    def do_persid(self, argument: str) -> None:
        self.stack.append(argument)
        self.do_binpersid(None)


RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # from Python 2

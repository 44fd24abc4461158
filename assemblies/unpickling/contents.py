"""What networks a checkpoint holds, whatever wraps them: their tensors by name, and what they were made with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from assemblies.unpickling.records import Record, UnreadableError, fields

ROLES = {"g": "G", "d": "D", "g_ema": "G_ema", "G": "G", "D": "D", "G_ema": "G_ema"}
SIGMAS = {"multiplier", "w_init_sigma"}  # what improved spectral norm multiplies by, in ViTGAN's two codes
MOST_OPTIONS, MOST_MODULES = 200_000, 20_000


class Stored(NamedTuple):
    """A network in a file: its tensors, and the options of its constructor as far as the file tells them."""

    tensors: dict[str, Tensor]
    args: dict[str, Any]


class Contents(NamedTuple):
    """The networks of a file by role (G, G_ema, D; "" where the file holds one network and does not say which)."""

    networks: dict[str, Stored]
    layout: str


def contents_of(found: Any, subject: str) -> Contents:
    """Looks for networks in what a file holds.

    Raises:
        UnreadableError: There are none.
    """
    top = fields(found)
    for name, inside in (("state_dicts", top.get("state_dicts")), ("", top)):
        states = {ROLES[key]: fields(value) for key, value in fields(inside).items() if key in ROLES}
        if states and all(is_state_dict(state) for state in states.values()):
            args, layout = plain(top.get("args")), f"state dicts {', '.join(states)}"
            if not name and isinstance(top.get("args"), Record):
                layout += " beside an argparse Namespace"
            options = args if isinstance(args, dict) else {}
            return Contents({role: Stored(tensors_in(state), options) for role, state in states.items()}, layout)
    modules = {ROLES[key]: value for key, value in top.items() if key in ROLES and is_module(value)}
    if modules:
        return Contents({role: stored(module) for role, module in modules.items()}, "whole networks G, G_ema, D")
    if is_module(found):
        return Contents({"": stored(found)}, "a whole network")
    if is_state_dict(top):
        return Contents({"": Stored(tensors_in(top), {})}, "a state dict")
    raise UnreadableError(f"{subject} holds no network that is known here, but {summary(found)}")


def stored(module: Record) -> Stored:
    """A pickled module's state dict, and what it was made with where that is kept (StyleGAN2-ADA's classes do)."""
    state = fields(module)
    args: dict[str, Any] = {}
    for name in ("_init_kwargs", "init_kwargs"):
        args |= {key: value for key, value in fields(plain(state.get(name))).items()}
    numbers = {name: value for name, value in state.items() if isinstance(value, int | float | str | bool)}
    return Stored(dict(state_of(module)), args or plain(numbers))


def state_of(module: Any, prefix: str = "", left: list[int] | None = None) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers of a pickled module and all modules inside it, as its state dict would name them."""
    left = left if left is not None else [MOST_MODULES]
    left[0] -= 1
    if left[0] < 0:
        raise UnreadableError(f"a network in the file has more than {MOST_MODULES:,} modules")
    state = fields(module if isinstance(module, Record) else None)
    passing = state.get("_non_persistent_buffers_set") or ()
    for group in ("_parameters", "_buffers"):
        for name, value in fields(state.get(group)).items():
            if isinstance(value, Tensor) and not (group == "_buffers" and name in passing):
                yield f"{prefix}{name}", value
    for name in SIGMAS & set(state):  # an attribute, which no state dict has
        value = np.asarray(state[name].detach() if isinstance(state[name], Tensor) else state[name])
        if value.size and value.dtype.kind in "fiu":
            yield f"{prefix}{name}", torch.tensor(float(value.flat[0]))
    for name, inside in fields(state.get("_modules")).items():
        yield from state_of(inside, f"{prefix}{name}.", left)


def is_module(value: Any) -> bool:
    return isinstance(value, Record) and "_modules" in fields(value)


def is_state_dict(state: Mapping[Any, Any]) -> bool:
    """Whether all that is in a dictionary are tensors by names."""
    return bool(state) and all(
        isinstance(name, str) and isinstance(value, Tensor | np.ndarray) for name, value in state.items()
    )


def tensors_in(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors by name; `module.` before all of them is what DistributedDataParallel left."""
    wrapped = all(name.startswith("module.") for name in state)
    return {name.removeprefix("module.") if wrapped else name: as_tensor(value) for name, value in state.items()}


def as_tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("=")))


def plain(value: Any, left: list[int] | None = None) -> Any:
    """Options as plain data: records become dictionaries, arrays lists, and names of types their text."""
    left = left if left is not None else [MOST_OPTIONS]
    left[0] -= 1  # a list may hold another twice, which holds a third twice, and so on
    if left[0] < 0:
        raise UnreadableError(f"the options in the file have more than {MOST_OPTIONS:,} parts")
    if isinstance(value, Record):
        value = fields(value) or value.elements
    if isinstance(value, dict):
        return {name: plain(each, left) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each, left) for each in value]
    if isinstance(value, np.ndarray | Tensor):
        return value.tolist()
    return value if isinstance(value, int | float | str | bool | None) else str(value)


def summary(found: Any) -> str:
    """What an unknown file holds, in a few words."""
    if isinstance(found, Record):
        return f"an object of {found.name}"
    if isinstance(found, dict):
        names = ", ".join(str(name) for name in list(found)[:6])
        return f"a dictionary of {names}{' and more' if len(found) > 6 else ''}" if names else "an empty dictionary"
    return f"a {type(found).__name__}"

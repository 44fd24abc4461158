"""Finds the networks in a checkpoint: their tensors by name, and their constructors' arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from assemblies.unpickling.limits import check_name
from assemblies.unpickling.records import Record, UnreadableError, fields
from registry.text import excerpt

ROLES = {"g": "G", "d": "D", "g_ema": "G_ema", "G": "G", "D": "D", "G_ema": "G_ema"}
ROLES |= {"generator": "G", "discriminator": "D", "ema": "G_ema"}  # GAT
SIGMAS = {"multiplier", "w_init_sigma"}  # factors of improved spectral norm in the two ViTGAN implementations
MAX_OPTIONS, MAX_DEPTH, MAX_MODULES = 200_000, 100, 20_000


class Stored(NamedTuple):
    """A network in a file: its tensors by name, and its constructor's arguments as far as the file has them."""

    tensors: dict[str, Tensor]
    args: dict[str, Any]


class Contents(NamedTuple):
    """The networks of a file by role: G, G_ema or D, or "" for a single network of unknown role."""

    networks: dict[str, Stored]
    layout: str


def contents_of(checkpoint: Any, subject: str) -> Contents:
    """The networks in the object of a checkpoint.

    Raises:
        UnreadableError: There are none.
    """
    top = fields(checkpoint)
    for name, section in (("state_dicts", top.get("state_dicts")), ("", top)):
        states = {ROLES[key]: fields(value) for key, value in fields(section).items() if key in ROLES}
        if states and all(is_state_dict(state) for state in states.values()):
            args, layout = plain(top.get("args")), f"state dicts {', '.join(states)}"
            if not name and isinstance(top.get("args"), Record):
                layout += " beside an argparse Namespace"
            options = args if isinstance(args, dict) else {}
            return Contents({role: Stored(tensors_in(state), options) for role, state in states.items()}, layout)
    modules = {ROLES[key]: value for key, value in top.items() if key in ROLES and is_module(value)}
    if modules:
        networks = {role: stored(module) for role, module in modules.items()}
        return Contents(networks, f"whole networks {', '.join(networks)}")
    if is_module(checkpoint):
        return Contents({"": stored(checkpoint)}, "a whole network")
    if is_state_dict(top):
        return Contents({"": Stored(tensors_in(top), {})}, "a state dict")
    raise UnreadableError(f"{subject} has no networks in a known layout; it holds {summary(checkpoint)}")


def stored(module: Record) -> Stored:
    """The state dict of a pickled module, and its constructor's arguments where its class keeps them."""
    state = fields(module)
    args: dict[str, Any] = {}
    for name in ("_init_kwargs", "init_kwargs"):  # StyleGAN2-ADA's classes
        args |= {key: value for key, value in fields(plain(state.get(name))).items()}
    numbers = {name: value for name, value in state.items() if isinstance(value, int | float | str | bool)}
    return Stored(dict(state_of(module)), args or plain(numbers))


def state_of(module: Any, prefix: str = "", left: list[int] | None = None) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers of a pickled module and its submodules, under their names in a state dict."""
    left = left if left is not None else [MAX_MODULES]
    left[0] -= 1
    if left[0] < 0:
        raise UnreadableError(f"a network in the file has more than {MAX_MODULES:,} modules")
    state = fields(module if isinstance(module, Record) else None)
    names = state.get("_non_persistent_buffers_set")
    non_persistent = names if isinstance(names, set | frozenset) else set()
    for group in ("_parameters", "_buffers"):
        for name, value in fields(state.get(group)).items():
            if isinstance(value, Tensor) and not (group == "_buffers" and name in non_persistent):
                yield f"{prefix}{name}", value
    for name in SIGMAS & set(state):  # attributes, which a state dict does not contain
        value = state[name].numpy() if isinstance(state[name], Tensor) else state[name]
        if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "fiu":
            value = value.flat[0].item()
        if isinstance(value, int | float):
            yield f"{prefix}{name}", torch.tensor(float(value))
    for name, submodule in fields(state.get("_modules")).items():
        yield from state_of(submodule, check_name(f"{prefix}{name}."), left)


def is_module(value: Any) -> bool:
    return isinstance(value, Record) and "_modules" in fields(value)


def is_state_dict(state: Mapping[Any, Any]) -> bool:
    """Whether a dictionary maps names to tensors only."""
    return bool(state) and all(
        isinstance(name, str) and isinstance(value, Tensor | np.ndarray) for name, value in state.items()
    )


def tensors_in(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors by name, without the prefix `module.` that DistributedDataParallel adds to all names."""
    wrapped = all(name.startswith("module.") for name in state)
    tensors = {id(value): as_tensor(value) for value in state.values()}  # a file may name one array many times
    return {name.removeprefix("module.") if wrapped else name: tensors[id(value)] for name, value in state.items()}


def as_tensor(value: Tensor | np.ndarray[Any, Any]) -> Tensor:
    if isinstance(value, Tensor):
        return value
    try:
        return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("=")))
    except TypeError:
        raise UnreadableError(f"an array of dtype {value.dtype}, which torch does not have") from None


def plain(value: Any, left: list[int] | None = None, depth: int = 0) -> Any:
    """Options as plain data: records become dictionaries, arrays become lists, and types become their names.

    Raises:
        UnreadableError: They have too many parts, or are nested too deeply.
    """
    left = left if left is not None else [MAX_OPTIONS]
    left[0] -= value.size if isinstance(value, np.ndarray) else value.numel() if isinstance(value, Tensor) else 1
    if left[0] < 0:  # a list may contain another one twice, which contains a third one twice, and so on
        raise UnreadableError(f"the options in the file have more than {MAX_OPTIONS:,} parts")
    if depth > MAX_DEPTH:
        raise UnreadableError(f"the options in the file are nested more than {MAX_DEPTH} deep")
    if isinstance(value, Record):
        value = fields(value) or value.elements
    if isinstance(value, dict):
        return {name: plain(entry, left, depth + 1) for name, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(element, left, depth + 1) for element in value]
    if isinstance(value, np.ndarray | Tensor):
        return value.tolist()
    return value if isinstance(value, int | float | str | bool | None) else str(value)


def summary(checkpoint: Any) -> str:
    """The object of an unknown file in a few words."""
    if isinstance(checkpoint, Record):
        return f"an object of {excerpt(checkpoint.name)}"
    if isinstance(checkpoint, dict):
        names = ", ".join(excerpt(name, 40) for name in list(checkpoint)[:6])
        return (
            f"a dictionary of {names}{' and more' if len(checkpoint) > 6 else ''}" if names else "an empty dictionary"
        )
    return f"a {type(checkpoint).__name__}"

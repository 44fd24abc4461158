"""Constructor arguments of reference implementations, as their checkpoints store them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry import IncompatibleError, Problem, incompatible

Options = Mapping[str, Any]
# arguments of StyleGAN2-ADA's lineage that change precision, memory layout or what is trained, but no numbers
WITHOUT_EFFECT = frozenset(
    ("num_fp16_res", "fp16_channels_last", "force_fp32", "use_fp16", "fused_modconv_default", "freeze_layers")
)


def check_options(path: tuple[str, ...], options: Options, **supported: Any) -> None:
    """Raise an error for arguments that the blocks here cannot express.

    Args:
        path: Where the options are in the checkpoint's arguments.
        options: Arguments by name.
        supported: The only value that the blocks here can express, by argument.

    Raises:
        IncompatibleError: An argument has another value, or no block has it; all of them are listed.
    """
    problems = []
    for name, value in options.items():
        if name in supported:
            only = supported[name]
            if (list(value) if isinstance(only, list) else value) != only:
                problems.append(Problem((*path, name), f"is {value!r}; only {only!r} is supported"))
        elif name not in WITHOUT_EFFECT:
            problems.append(Problem((*path, name), f"is {value!r}; no block has this option"))
    if problems:
        raise IncompatibleError(problems)


def renamed(options: Options, names: Mapping[str, str]) -> dict[str, Any]:
    """The options that have a value, under their new names."""
    return {new: options[old] for old, new in names.items() if options.get(old) is not None}


def without(options: Options, *names: str) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in names}


def check_power_of_two(name: str, size: int, smallest: int) -> None:
    """Raise an error if a resolution is not a power of two from `smallest` on.

    Raises:
        IncompatibleError: It is not.
    """
    if size < smallest or size & (size - 1):
        raise incompatible(name, f"must be a power of two and at least {smallest}, not {size}")

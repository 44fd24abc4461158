"""Limits of networks, which a trace checks before memory is allocated: values of a map, parameters, memory."""

from __future__ import annotations

import math
import os

import torch

from registry import IncompatibleError, Problem, incompatible

MAX_VALUES = 2**31 - 1  # of the features, image or logits of one sample: kernels have indices of 32 bits
MAX_STEPS = 256  # of a network; `repeat` counts once
MAX_PARAMETERS = 10**11  # of a network; 400 GB in float32


def check_parameters(path: tuple[str | int, ...], parameters: int) -> None:
    """Refuse a network that no machine can hold, before it is built.

    Raises:
        IncompatibleError: It has more than `MAX_PARAMETERS` parameters up to the step at `path`.
    """
    if parameters > MAX_PARAMETERS:
        fact = f"the network has {parameters:.3g} parameters up to here, {4 * parameters / 1e9:,.0f} GB in float32"
        raise IncompatibleError([Problem(path, f"{fact}; at most {MAX_PARAMETERS:.0e} are possible")])


def check_memory(parameters: int) -> None:
    """Refuse to allocate a network that is larger than the memory of this machine.

    Raises:
        IncompatibleError: It is, and the default device is not the meta device.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if torch.get_default_device().type != "meta" and 4 * parameters > memory:
        fact = f"{parameters:.3g} parameters take {4 * parameters / 1e9:,.0f} GB in float32"
        raise incompatible((), f"{fact}, and this machine has {memory / 1e9:,.0f} GB of memory; take smaller sizes")


def check_shapes(path: tuple[str | int, ...], **shapes: tuple[int, ...] | None) -> None:
    """Refuse maps and images that no kernel can index.

    Args:
        path: The path of the step that makes them.
        **shapes: Shapes without the batch axis, by what they are shapes of.

    Raises:
        IncompatibleError: One of them has more than `MAX_VALUES` values.
    """
    for name, shape in shapes.items():
        if shape is not None and (values := math.prod(shape)) > MAX_VALUES:
            fact = f"has {name} of {' x '.join(map(str, shape))} = {values:.3g} values for each image"
            cure = "at most 2^31 - 1 are possible, because kernels have indices of 32 bits; take a smaller size"
            raise IncompatibleError([Problem(path, f"{fact}; {cure}")])

"""Launches of Triton kernels whose arguments, except for addresses, are prepared once.

Triton's launcher looks at every argument of every launch, which takes longer than a kernel on a small map. Here that is
done once for each key; further launches go from Python to the CUDA driver.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

ALIGNMENT = 16  # bytes; Triton compiles another kernel for addresses that are no multiples of it
MOST_PREPARED = 4096


class Call(NamedTuple):
    """A kernel and what it gets beside tensors; its parameters are tensors, then numbers, then constants."""

    function: Any
    programs: tuple[int, int, int]
    numbers: Sequence[float]
    constants: tuple[Any, ...]
    warps: int
    stages: int = 1


Launch = Callable[[list[int]], object]
_prepared: dict[tuple[Any, ...], Launch] = {}


def launch(key: tuple[Any, ...], tensors: tuple[Tensor, ...], prepare: Callable[[], Call]) -> None:
    """Launch a kernel on the current stream.

    Args:
        key: All that the call follows from, except the device and the addresses modulo `ALIGNMENT`.
        tensors: Tensors on the current device.
        prepare: The call; run for a new key only.
    """
    addresses = [x.data_ptr() for x in tensors]
    key = (key, tensors[0].get_device(), tuple([address % ALIGNMENT for address in addresses]))
    if (run := _prepared.get(key)) is not None:
        run(addresses)
        return
    call = prepare()
    options = {"num_warps": call.warps, "num_stages": call.stages, "enable_fp_fusion": True}
    compiled = call.function[call.programs](*tensors, *call.numbers, *call.constants, **options)
    if compiled is not None:  # the interpreter compiles nothing
        if len(_prepared) >= MOST_PREPARED:
            _prepared.clear()
        _prepared[key] = _by_driver(compiled, call, len(tensors), tensors[0].get_device())


def _by_driver(compiled: Any, call: Call, num_tensors: int, device: int) -> Launch:
    """A function of the addresses that launches a compiled kernel by the CUDA driver, or else by Triton."""

    def by_triton(addresses: list[int]) -> None:
        compiled[call.programs](*addresses, *call.numbers, *call.constants)

    start, arguments = driver_function(), arguments_of(compiled, call, num_tensors)
    if start is None or arguments is None:
        return by_triton
    pointers = (ctypes.c_void_p * len(arguments))(*range(*_span(arguments)))
    grid = (*call.programs, 32 * call.warps, 1, 1, compiled.metadata.shared)
    stream: Callable[[int], int] = torch._C._cuda_getCurrentRawStream
    function = compiled.function

    def by_driver(addresses: list[int]) -> None:
        arguments[:num_tensors] = addresses
        if start(function, *grid, stream(device), pointers, None) != 0:
            by_triton(addresses)  # raises the error, if there still is one

    return by_driver


def arguments_of(compiled: Any, call: Call, num_tensors: int) -> Any:
    """The arguments of a compiled kernel in words of 8 bytes, addresses zero; None where Triton has to prepare more."""
    metadata, scratch = compiled.metadata, ("global_scratch_size", "profile_scratch_size")
    kinds = [kind for kind in compiled.src.signature.values() if kind != "constexpr"]
    kinds_of_numbers = kinds[num_tensors:]
    if len(kinds_of_numbers) != len(call.numbers) or not {*kinds_of_numbers} <= {"i32", "i64", "fp32"}:
        return None
    if metadata.num_ctas != 1 or any(getattr(metadata, name, 0) for name in scratch):
        return None
    words = (ctypes.c_uint64 * (len(kinds) + len(scratch)))()  # Triton appends two addresses, zero if not used
    for i, (kind, number) in enumerate(zip(kinds_of_numbers, call.numbers, strict=True), num_tensors):
        struct.pack_into("<f" if kind == "fp32" else "<q", words, 8 * i, number)
    return words


@cache
def driver_function() -> Any:
    """The driver's cuLaunchKernel; None where its library is not found."""
    try:
        # PyDLL holds the interpreter's lock: no other thread changes the arguments while the driver copies them
        function = ctypes.PyDLL("libcuda.so.1").cuLaunchKernel
    except OSError:
        return None
    function.argtypes = [ctypes.c_void_p, *[ctypes.c_uint] * 7, *[ctypes.c_void_p] * 3]
    return function


def _span(words: Any) -> tuple[int, int, int]:
    """First address, address after the last, and step."""
    first = ctypes.addressof(words)
    return first, first + ctypes.sizeof(words), ctypes.sizeof(ctypes.c_uint64)

"""Launches by the CUDA driver: the words that a kernel gets, and that they are prepared once."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import pytest
import torch

from blocks.ops import launches
from blocks.ops.launches import Call, arguments_of, launch

SIGNATURE = {"x": "*fp32", "y": "*bf16", "scale": "fp32", "width": "i32", "stride": "i64", "K": "constexpr"}
METADATA = {"num_ctas": 1, "global_scratch_size": 0, "profile_scratch_size": 0, "shared": 1024}


class Compiled(SimpleNamespace):
    """What Triton returns for a launch, for launches of its own."""

    def __getitem__(self, programs):
        return lambda *arguments: self.launched.append((programs, arguments))


def compiled(**metadata) -> Compiled:
    source = SimpleNamespace(signature=SIGNATURE)
    return Compiled(metadata=SimpleNamespace(**METADATA | metadata), src=source, function=7, launched=[])


def call(kernel: Compiled, numbers=(0.5, -3, 2**40)) -> Call:
    class Function:
        def __getitem__(self, programs):
            return lambda *arguments, **options: kernel

    return Call(Function(), (5, 6, 1), numbers, (7,), warps=4)


def test_numbers_have_the_layout_of_the_kernel_and_addresses_follow():
    words = arguments_of(compiled(), call(compiled()), 2)
    assert list(words[:2]) == [0, 0]
    assert struct.unpack_from("<f", words, 16) == (0.5,)
    assert struct.unpack_from("<iq", words, 24)[0] == -3
    assert struct.unpack_from("<q", words, 32) == (2**40,)
    assert list(words[5:]) == [0, 0]


@pytest.mark.parametrize("metadata", [{"num_ctas": 2}, {"global_scratch_size": 16}, {"profile_scratch_size": 8}])
def test_triton_launches_what_needs_more(metadata):
    assert arguments_of(compiled(**metadata), call(compiled()), 2) is None


@pytest.mark.parametrize(("status", "by_triton"), [(0, 0), (1, 1)])
def test_a_call_is_prepared_once_and_an_error_is_left_to_triton(monkeypatch, status, by_triton):
    started = []

    def start(function, *grid_and_more):
        *grid, stream, pointers, _ = grid_and_more
        first = struct.unpack_from("<QQ", (launches.ctypes.c_char * 16).from_address(pointers[0]))
        started.append((function, tuple(grid), stream, first))
        return status

    monkeypatch.setattr(launches, "driver_function", lambda: start)
    monkeypatch.setattr(launches, "_prepared", {})
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda device: 11, raising=False)
    kernel, x, y, prepared = compiled(), torch.zeros(4), torch.zeros(4), []

    def prepare():
        prepared.append(None)
        return call(kernel)

    for tensors in ((x, y), (y, x), (x, x)):
        launch(("key",), tensors, prepare)
    assert len(prepared) == 1
    addresses = [(y.data_ptr(), x.data_ptr()), (x.data_ptr(), x.data_ptr())]
    assert started == [(7, (5, 6, 1, 128, 1, 1, 1024), 11, each) for each in addresses]
    assert len(kernel.launched) == 2 * by_triton
    launch(("another key",), (x, y), prepare)
    launch(("key",), (x[1:], y), prepare)  # another alignment
    assert len(prepared) == 3


def test_a_missing_driver_is_no_error(monkeypatch):
    monkeypatch.setattr(launches.ctypes, "PyDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    assert launches.driver_function.__wrapped__() is None

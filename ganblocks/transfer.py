"""Devices, and copies to them that the host does not wait for: on CUDA from pinned memory, on a stream of their own."""

from __future__ import annotations

import torch
from torch import Tensor

from ganblocks.errors import RunError


def usable_device(name: str | torch.device) -> torch.device:
    """The device, after a tensor was made on it.

    Raises:
        RunError: There is no such device here.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RunError(f"the device {str(name)!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device. On CUDA it is copied in the order of the current stream."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)


class Prefetcher:
    """Copies tensors on a stream of their own, while the steps before still compute.

    The host is ahead of the device, so that a batch is copied as soon as it is loaded, and before it is needed.

    Args:
        device: The device; on one other than CUDA copies are ordinary.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def __call__(self, tensor: Tensor) -> Tensor:
        """The tensor on the device, ready for the current stream."""
        if self.stream is None:
            return tensor.to(self.device)
        with torch.cuda.stream(self.stream):
            copied = to_device(tensor, self.device)
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self.stream)
        copied.record_stream(current)  # its memory is reused only after the step
        return copied

"""Forward passes replayed as CUDA graphs: a list of kernels with their arguments, all of them started by one call."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from assemblies.inference.precision import Precision, computing_in
from blocks.common.noise import current_noise_mode
from blocks.common.weight_cache import Results, frozen_weights

Key = tuple[Any, ...]
MOST_GRAPHS = 8  # of a network; the one that was not used for the longest time is dropped
WARM_UP = 2  # passes before a capture, in which libraries choose algorithms and allocate workspaces


class Captured:
    """A forward pass that is replayed from a CUDA graph from its second call on, per kind of call.

    Calls are of one kind if they agree in shapes and dtypes of tensors, other arguments and noise mode. Inputs that
    need gradients, and calls whose capture fails, run without a graph.

    Args:
        forward: The forward pass of a network whose weights do not change any more.
        name: Name of the network, for warnings.
        precision: Precision of its matrix products and convolutions.
        captures: Whether it runs on a GPU.
    """

    def __init__(self, forward: Callable[..., Tensor], name: str, precision: Precision, captures: bool) -> None:
        self.forward, self.name, self.precision, self.captures = forward, name, precision, captures
        self.results = Results()
        self.graphs: OrderedDict[Key, Graph] = OrderedDict()
        self.seen: set[Key] = set()
        self.failed: set[Key] = set()

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        tensors = _tensors(args, kwargs)
        differentiates = torch.is_grad_enabled() and any(each.requires_grad for each in tensors)
        if not self.captures or not tensors or differentiates:
            return self.run(*args, **kwargs)
        key = (*map(_kind, args), *((name, _kind(value)) for name, value in kwargs.items()), current_noise_mode())
        graph = self.graphs.get(key)
        if graph is None and key in self.seen:
            graph = self.capture(key, args, kwargs)
        if graph is None:
            self.seen.add(key)
            return self.run(*args, **kwargs)
        self.graphs.move_to_end(key)
        return graph.replay(args, kwargs)

    def capture(self, key: Key, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Graph | None:
        """The graph of a kind of calls; None after a warning where the capture fails."""
        if key in self.failed:
            return None
        try:
            self.graphs[key] = Graph(self.run, args, kwargs)
        except Exception as error:  # of any block or library: the call can run without a graph
            reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            shapes = ", ".join(str(list(each.shape)) for each in _tensors(args, kwargs))
            warnings.warn(f"{self.name} of {shapes} runs without a CUDA graph: {reason}", stacklevel=3)
            self.failed.add(key)
            return None
        if len(self.graphs) > MOST_GRAPHS:
            self.graphs.popitem(last=False)
        return self.graphs[key]

    def run(self, *args: Any, **kwargs: Any) -> Tensor:
        """The forward pass without a graph."""
        tensors = _tensors(args, kwargs)
        with frozen_weights(self.results), computing_in(self.precision, tensors[0].device if tensors else None):
            return self.forward(*args, **kwargs)


class Graph:
    """A captured call. Random numbers are drawn anew in each replay, the same as without a graph."""

    @torch.no_grad()
    def __init__(self, run: Callable[..., Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.args = [_buffer(each) for each in args]
        self.kwargs = {name: _buffer(value) for name, value in kwargs.items()}
        device = _tensors(self.args, self.kwargs)[0].device
        with torch.cuda.device(device), torch.random.fork_rng([device]):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    run(*self.args, **self.kwargs)
            torch.cuda.current_stream().wait_stream(stream)
            with replaced_generator(device):  # a failed capture makes the generator unusable, so one is tried first
                self.graph, self.result = self.capture(run)
            self.graph, self.result = self.capture(run)

    def capture(self, run: Callable[..., Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """The graph of a call, and the tensor that its replays write."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = run(*self.args, **self.kwargs)
        torch.cuda.synchronize()  # a capture writes its seed on a stream of its own, and a replay another one
        return graph, result

    def replay(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """The result for new values of the tensors."""
        for buffer, value in zip((*self.args, *self.kwargs.values()), (*args, *kwargs.values()), strict=True):
            if isinstance(buffer, Tensor):
                buffer.copy_(value)
        self.graph.replay()
        return self.result.clone()  # the next replay overwrites it


@contextmanager
def replaced_generator(device: torch.device) -> Iterator[None]:
    """A context in which the device's random numbers come from a copy of its generator."""
    generator = torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
    state = generator.graphsafe_get_state()
    generator.graphsafe_set_state(generator.clone_state())
    try:
        yield
    finally:
        generator.graphsafe_set_state(state)


def _tensors(args: Iterable[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    return [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]


def _kind(value: Any) -> Any:
    return (tuple(value.shape), value.dtype, value.device) if isinstance(value, Tensor) else value


def _buffer(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value

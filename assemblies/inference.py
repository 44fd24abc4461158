"""A generator prepared for making images: weights cast once, and its forward pass replayed as a CUDA graph.

Mixed precision: Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740. CUDA graphs: a forward pass is recorded as
a list of kernels with their arguments, and starting all of them takes one call instead of hundreds.
"""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from blocks.common.noise import current_noise_mode
from blocks.common.weight_cache import Results, frozen_weights

if TYPE_CHECKING:
    from assemblies.generator import Generator

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Key = tuple[Any, ...]
DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
MOST_GRAPHS = 8  # of a network; the one that was not used for the longest time is dropped
WARM_UP = 2  # passes before a capture, in which libraries choose algorithms and allocate workspaces


class Inference(NamedTuple):
    """What `optimize_for_inference` did to a generator.

    Args:
        precision: Of all matrix products and convolutions of the synthesis.
        cast: Names of the parameters and buffers that are stored in 16 bits.
        captures: Whether forward passes are captured in CUDA graphs.
    """

    precision: Precision
    cast: tuple[str, ...]
    captures: bool


def optimized(generator: Generator, batch_size: int | None, precision: Precision) -> Generator:
    """The copy that `Generator.optimize_for_inference` returns."""
    if precision not in ("tf32", "fp32", *DTYPES):
        raise ValueError(f"unknown precision {precision!r}; valid: fp32, tf32, bf16, fp16")
    device = next(generator.parameters()).device
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("fp16 needs a GPU; choose precision bf16 or fp32 on a CPU")
    fast = _copy(generator)
    on_gpu = device.type == "cuda"
    with torch.no_grad():
        cast = _cast_weights(fast, precision, batch_size or 1)
        fast.mapping.forward = Captured(fast.mapping.forward, "mapping", "fp32", on_gpu)
        fast.synthesis.forward = Captured(fast.synthesis.forward, "synthesis", precision, on_gpu)
        fast.inference = Inference(precision, cast, on_gpu)
        if batch_size is not None and on_gpu:
            for _ in range(2):
                fast(*_inputs(fast, batch_size))
    return fast


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
        self.results: Results = {}
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
            with _replaced_generator(device):  # a failed capture makes the generator unusable, so one is tried first
                self.graph, self.result = self.capture(run)
            self.graph, self.result = self.capture(run)

    def capture(self, run: Callable[..., Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """The graph of a call, and the tensor that its replays write."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = run(*self.args, **self.kwargs)
        return graph, result

    def replay(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """The result for new values of the tensors."""
        for buffer, value in zip((*self.args, *self.kwargs.values()), (*args, *kwargs.values()), strict=True):
            if isinstance(buffer, Tensor):
                buffer.copy_(value)
        self.graph.replay()
        return self.result.clone()  # the next replay overwrites it


@contextmanager
def _replaced_generator(device: torch.device) -> Iterator[None]:
    """A context in which the device's random numbers come from a copy of its generator."""
    generator = torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
    state = generator.graphsafe_get_state()
    generator.graphsafe_set_state(generator.clone_state())
    try:
        yield
    finally:
        generator.graphsafe_set_state(state)


@contextmanager
def computing_in(precision: Precision, device: torch.device | None) -> Iterator[None]:
    """Matrix products and convolutions in a precision; fp32 is float32 without TF32."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    kind = "cpu" if device is None else device.type
    low = torch.autocast(kind, DTYPES[precision], cache_enabled=False) if precision in DTYPES else nullcontext()
    try:
        if precision not in DTYPES and kind == "cuda":
            matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
        with low:
            yield
    finally:
        if kind == "cuda":
            matmul.allow_tf32, cudnn.allow_tf32 = before


def _copy(generator: Generator) -> Generator:
    """A copy in eval mode that shares the memory of the weights; its weights need no gradients."""
    shared: dict[int, Any] = {id(each): each for each in generator.buffers()}
    shared |= {id(each): nn.Parameter(each.detach(), requires_grad=False) for each in generator.parameters()}
    return copy.deepcopy(generator, shared).eval()


def _cast_weights(generator: Generator, precision: Precision, batch_size: int) -> tuple[str, ...]:
    """Store parameters and buffers in 16 bits that the synthesis uses in 16 bits only; returns their names.

    A pass under autocast shows which these are. Styles, colours and statistics of norms, which blocks compute in
    float32, stay as they are.
    """
    dtype = DTYPES.get(precision)
    if dtype is None:
        return ()
    tensors = {**dict(generator.synthesis.named_parameters()), **dict(generator.synthesis.named_buffers())}
    uses = Uses(list(tensors.values()), dtype)
    ws = generator.mapping(*_inputs(generator, batch_size))
    with frozen_weights({}), computing_in(precision, ws.device), torch.random.fork_rng():
        with uses:
            generator.synthesis(ws)
    names = tuple(name for name, each in tensors.items() if id(each) in uses.cast - uses.others)
    for name in names:
        path, _, leaf = name.rpartition(".")
        module = generator.synthesis.get_submodule(path)
        value = tensors[name].to(dtype)
        if isinstance(tensors[name], nn.Parameter):
            setattr(module, leaf, nn.Parameter(value, requires_grad=False))
        else:
            module.register_buffer(leaf, value, persistent=leaf not in module._non_persistent_buffers_set)
    return tuple(f"synthesis.{name}" for name in names)


class Uses(TorchDispatchMode):
    """Records which tensors are cast to a dtype and which are used in other ways."""

    def __init__(self, tensors: list[Tensor], dtype: torch.dtype) -> None:
        super().__init__()
        self.tensors, self.dtype = {id(each) for each in tensors}, dtype
        self.cast: set[int] = set()
        self.others: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        is_cast = func is torch.ops.aten._to_copy.default and kwargs.get("dtype") == self.dtype
        used = {id(each) for each in tree_leaves((args, kwargs))} & self.tensors
        (self.cast if is_cast else self.others).update(used)
        return func(*args, **kwargs)


def _inputs(generator: Generator, batch_size: int) -> tuple[Tensor, Tensor | None]:
    device = next(generator.parameters()).device
    z = torch.zeros(batch_size, generator.z_dim, device=device)
    z[:, ::2] = 1  # zeros have no direction to normalise
    return z, torch.zeros(batch_size, generator.cond_dim, device=device) if generator.cond_dim else None


def _tensors(args: Iterable[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    return [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]


def _kind(value: Any) -> Any:
    return (tuple(value.shape), value.dtype, value.device) if isinstance(value, Tensor) else value


def _buffer(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value

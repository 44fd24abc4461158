"""Measures which kernel is the fastest for a call, and caches the result on disk.

A result is valid for one combination of processor, devices, threads and library versions; each combination has its own
file. The files are in GANBLOCKS_CACHE, or in the folder ganblocks of XDG_CACHE_HOME or ~/.cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import metadata
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from registry.kernels import Kernel

CACHE_ENV = "GANBLOCKS_CACHE"
ROUNDS = 5
SECONDS = 1.0  # no further round after this time


def folder() -> Path:
    """The folder of the cache."""
    if path := os.environ.get(CACHE_ENV):
        return Path(path)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganblocks"


def identity(libraries: Iterable[str] = ()) -> dict[str, Any]:
    """What a measurement is valid for: processor, devices, threads and versions of the libraries that compute."""
    import torch

    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(index) for index in gpus],
        "versions": {name: _version(name) for name in sorted({"ganblocks", "torch", *libraries})},
    }


def signature(op: str, names: Sequence[str], second_order: bool, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The key of a call: the op, the arguments' dtypes, shapes and devices, and the kernels that support it."""
    import torch

    gradients = torch.is_grad_enabled()
    parts = [_describe(value, gradients) for value in args]
    parts += [name + "=" + _describe(kwargs[name], gradients) for name in sorted(kwargs)]
    mode = "twice" if second_order else "once"
    return op + "(" + ", ".join(parts) + ") differentiated " + mode + " by " + " or ".join(names)


def measurable(args: Sequence[Any]) -> bool:
    """Whether a call can be measured: torch.compile is not tracing, and the tensors are neither meta nor subclasses."""
    import torch

    return not torch.compiler.is_compiling() and not any(
        isinstance(value, torch.Tensor) and (value.is_meta or type(value) not in (torch.Tensor, torch.nn.Parameter))
        for value in args
    )


class Choices:
    """The cached choices of one identity.

    Args:
        libraries: Distributions whose versions are part of the identity.
    """

    def __init__(self, libraries: Iterable[str] = ()) -> None:
        self.identity = identity(libraries)
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:16]
        self.path = folder() / f"kernels-{digest}.json"
        self.kernels: dict[str, str] = {}
        self.seconds: dict[str, dict[str, float]] = {}
        self._read()

    def choose(
        self,
        key: str,
        kernels: Sequence[Kernel],
        second_order: bool,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Kernel:
        """Measure the kernels for a call, cache the result and return the fastest."""
        self.seconds[key] = measure(kernels, second_order, args, kwargs)
        if not self.seconds[key]:
            return kernels[0]  # all of them raised; this one will raise in the caller
        self.kernels[key] = min(self.seconds[key], key=lambda name: self.seconds[key][name])
        self._write()
        return next(kernel for kernel in kernels if kernel.name == self.kernels[key])

    def _read(self) -> None:
        try:
            content = json.loads(self.path.read_text())
            if content["identity"] != self.identity:
                return
            seconds = {key: dict(entry["seconds"]) for key, entry in content["choices"].items()}
            kernels = {key: str(entry["kernel"]) for key, entry in content["choices"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return  # no file yet, or a damaged one: measuring again is cheap
        self.seconds, self.kernels = seconds | self.seconds, kernels | self.kernels

    def _write(self) -> None:
        """Replace the file, with the entries that other processes have added; readers get the old file or the new."""
        self._read()
        choices = {key: {"kernel": name, "seconds": self.seconds[key]} for key, name in self.kernels.items()}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.path.parent, suffix=".part", delete=False) as part:
                json.dump({"identity": self.identity, "choices": choices}, part, indent=1)
            os.replace(part.name, self.path)
        except OSError:
            return  # without a writable folder, the next process measures again


def measure(
    kernels: Sequence[Kernel], second_order: bool, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, float]:
    """Median seconds of each kernel for a call and its gradients. A kernel that raises is left out."""
    runs: dict[str, Callable[[], None]] = {}
    for kernel in kernels:
        run = _differentiated(kernel, second_order, args, kwargs)
        try:
            run()  # compiles, and shows whether the kernel raises
        except Exception:
            continue
        runs[kernel.name] = run
    times: dict[str, list[float]] = {name: [] for name in runs}
    started = time.perf_counter()
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
        if time.perf_counter() - started > SECONDS:
            break
    return {name: statistics.median(rounds) for name, rounds in times.items()}


def _differentiated(
    kernel: Kernel, second_order: bool, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Callable[[], None]:
    """A function that runs the call on detached inputs, and computes its gradients where they are needed."""
    import torch

    leaves: list[torch.Tensor] = []

    def detached(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        leaf = value.detach()
        if value.requires_grad and torch.is_grad_enabled():
            leaves.append(leaf.requires_grad_())
        return leaf

    inputs, options = [detached(value) for value in args], {name: detached(value) for name, value in kwargs.items()}
    synchronize = torch.cuda.synchronize if any(_is_cuda(value) for value in inputs) else _nothing

    def run() -> None:
        y = kernel.run(*inputs, **options)
        if leaves:
            loss = y.square().sum() if second_order else y.sum()
            gradients = torch.autograd.grad(loss, leaves, create_graph=second_order, allow_unused=True)
            if second_order:
                penalty = torch.stack([each.square().sum() for each in gradients if each is not None]).sum()
                torch.autograd.grad(penalty, leaves, allow_unused=True)
        synchronize()

    return run


def _describe(value: Any, gradients: bool) -> str:
    import torch

    if not isinstance(value, torch.Tensor):
        return str(value)
    grad = " grad" if gradients and value.requires_grad else ""
    shape = "x".join([str(index(size)) for size in value.shape])  # under torch.compile, `index` makes a size a constant
    return str(value.dtype) + " " + shape + " " + str(value.device) + grad


def _is_cuda(value: Any) -> bool:
    return getattr(getattr(value, "device", None), "type", None) == "cuda"


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{os.cpu_count()} x {model or platform.processor() or platform.machine()}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _nothing() -> None:
    pass

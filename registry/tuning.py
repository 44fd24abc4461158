"""Measures which kernel is the fastest for a call, and caches the result on disk.

A result is valid for one combination of processor, devices, threads and library versions; each combination has its own
file in the folder of the cache. A file that is damaged or too large is ignored, with a warning.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.cache_folder import folder
from registry.spec_file import installed_version, write_atomically

if TYPE_CHECKING:
    from registry.kernels import Kernel

ROUNDS = 5
SECONDS = 1.0  # no further round after this time
MAX_BYTES = 2**24  # of a file
BY, OR = " by ", " or "  # in a key: before the names of the kernels, and between them


def identity(libraries: Iterable[str] = ()) -> dict[str, Any]:
    """What a measurement is valid for: processor, devices, threads and versions of the libraries that compute."""
    import torch

    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(index) for index in gpus],
        "versions": {name: installed_version(name) for name in sorted({"ganblocks", "torch", *libraries})},
    }


def signature(op: str, names: Sequence[str], second_order: bool, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The key of a call: the op, the arguments' dtypes, shapes and devices, and the kernels that support it."""
    import torch

    gradients = torch.is_grad_enabled()
    parts = [_describe(value, gradients) for value in args]
    parts += [name + "=" + _describe(kwargs[name], gradients) for name in sorted(kwargs)]
    mode = "twice" if second_order else "once"
    return op + "(" + ", ".join(parts) + ") differentiated " + mode + BY + OR.join(names)


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
        self.file_name = f"kernels-{digest}.json"
        self.kernels: dict[str, str] = {}
        self.seconds: dict[str, dict[str, float]] = {}
        self._read()

    @property
    def path(self) -> Path:
        """The file.

        Raises:
            OSError: There is no folder for a cache.
        """
        return folder() / self.file_name

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
            entries = _entries(self.path, self.identity)
        except OSError:
            return  # no file yet, or none that can be read: measuring again is cheap
        except (ValueError, RecursionError) as error:
            warnings.warn(f"{self.path} is ignored, and kernels are measured again: {error}", stacklevel=2)
            return
        self.seconds = {key: seconds for key, (seconds, _) in entries.items()} | self.seconds
        self.kernels = {key: kernel for key, (_, kernel) in entries.items()} | self.kernels

    def _write(self) -> None:
        """Replace the file, with the entries that other processes have added; readers get the old file or the new."""
        self._read()
        choices = {key: {"kernel": name, "seconds": self.seconds[key]} for key, name in self.kernels.items()}
        content = json.dumps({"identity": self.identity, "choices": choices}, indent=1)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self.path, content.encode())
        except OSError:
            return  # without a writable folder, the next process measures again


def _entries(path: Path, expected: Mapping[str, Any]) -> dict[str, tuple[dict[str, float], str]]:
    """Seconds and choice of each call in a file; none if the file is of another identity.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged or too large.
        RecursionError: Its JSON is nested too deep.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"it has {size:,} bytes, and the limit is {MAX_BYTES:,}")
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("choices"), dict):
        raise ValueError("it has no choices of kernels")
    if content.get("identity") != expected:
        return {}
    entries = {}
    for key, entry in content["choices"].items():
        names = key.rpartition(BY)[2].split(OR)
        seconds, kernel = (entry.get("seconds"), entry.get("kernel")) if isinstance(entry, dict) else (None, None)
        if not isinstance(seconds, dict) or not isinstance(kernel, str) or not {kernel, *seconds} <= {*names}:
            raise ValueError(f"its entry {key[:80]!r} does not choose one of the kernels {', '.join(names)[:80]}")
        if not all(isinstance(each, int | float) for each in seconds.values()):
            raise ValueError(f"its entry {key[:80]!r} has other seconds than numbers")
        entries[key] = seconds, kernel
    return entries


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
def processor() -> str:
    """Number and model name of the CPU cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{os.cpu_count()} x {model or platform.processor() or platform.machine()}"


def _nothing() -> None:
    pass

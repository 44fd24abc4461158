"""Which kernel is the quickest for a call, measured here once and remembered on disk.

What is remembered belongs to this machine, its devices, threads and libraries: each such identity has a file of its
own, and no other is ever read. Files lie in GANBLOCKS_CACHE, or in ganblocks below XDG_CACHE_HOME or ~/.cache.
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

CACHE = "GANBLOCKS_CACHE"
ROUNDS = 5
SECONDS = 1.0  # no further round after so long, for calls that take long themselves


def folder() -> Path:
    """Where choices are kept."""
    if chosen := os.environ.get(CACHE):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganblocks"


def identity(libraries: Iterable[str] = ()) -> dict[str, Any]:
    """What a measurement is valid for: processor, devices, threads, and the versions of all that computes."""
    import torch

    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(index) for index in gpus],
        "versions": {name: _version(name) for name in sorted({"ganblocks", "torch", *libraries})},
    }


def signature(op: str, names: Sequence[str], second_order: bool, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """One call: the op, which kernels there are to choose from, and what each argument looks like."""
    import torch

    gradients = torch.is_grad_enabled()
    parts = [_describe(value, gradients) for value in args]
    parts += [name + "=" + _describe(kwargs[name], gradients) for name in sorted(kwargs)]
    mode = "twice" if second_order else "once"
    return op + "(" + ", ".join(parts) + ") differentiated " + mode + " by " + " or ".join(names)


def measurable(args: Sequence[Any]) -> bool:
    """Whether a run now would tell anything: not while torch.compile traces, and not without numbers."""
    import torch

    return not torch.compiler.is_compiling() and not any(
        isinstance(value, torch.Tensor) and (value.is_meta or type(value) not in (torch.Tensor, torch.nn.Parameter))
        for value in args
    )


class Choices:
    """The choices of one identity, as read from its file and added to since."""

    def __init__(self, libraries: Iterable[str] = ()) -> None:
        self.identity = identity(libraries)
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:16]
        self.path = folder() / f"kernels-{digest}.json"
        self.kernels: dict[str, str] = {}
        self.seconds: dict[str, dict[str, float]] = {}
        self._read()

    def choose(
        self,
        asked: str,
        kernels: Sequence[Kernel],
        second_order: bool,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Kernel:
        """Measure the kernels for a call, and remember the quickest."""
        self.seconds[asked] = measure(kernels, second_order, args, kwargs)
        if not self.seconds[asked]:
            return kernels[0]  # all of them raised: so will this one, where the caller sees it
        self.kernels[asked] = min(self.seconds[asked], key=lambda name: self.seconds[asked][name])
        self._write()
        return next(kernel for kernel in kernels if kernel.name == self.kernels[asked])

    def _read(self) -> None:
        try:
            kept = json.loads(self.path.read_text())
            if kept["identity"] != self.identity:
                return
            found = {asked: dict(entry["seconds"]) for asked, entry in kept["choices"].items()}
            chosen = {asked: str(entry["kernel"]) for asked, entry in kept["choices"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return  # none yet, or not ours: measuring again is cheap
        self.seconds, self.kernels = found | self.seconds, chosen | self.kernels

    def _write(self) -> None:
        """The whole file anew, with what other processes added meanwhile; a reader sees the old or the new one."""
        self._read()
        choices = {asked: {"kernel": name, "seconds": self.seconds[asked]} for asked, name in self.kernels.items()}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.path.parent, suffix=".part", delete=False) as part:
                json.dump({"identity": self.identity, "choices": choices}, part, indent=1)
            os.replace(part.name, self.path)
        except OSError:
            return  # a folder that cannot be written to only costs measuring again


def measure(
    kernels: Sequence[Kernel], second_order: bool, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, float]:
    """Median seconds of each kernel for a call and its gradients, in turns; a kernel that raises is left out."""
    runs: dict[str, Callable[[], None]] = {}
    for kernel in kernels:
        run = _differentiated(kernel, second_order, args, kwargs)
        try:
            run()  # the first run compiles, and finds out
        except Exception:
            continue
        runs[kernel.name] = run
    times: dict[str, list[float]] = {name: [] for name in runs}
    begun = time.perf_counter()
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
        if time.perf_counter() - begun > SECONDS:
            break
    return {name: statistics.median(found) for name, found in times.items()}


def _differentiated(
    kernel: Kernel, second_order: bool, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Callable[[], None]:
    """A run of the call on copies that share its numbers but no history, and of its gradients as far as needed."""
    import torch

    leaves: list[torch.Tensor] = []

    def alone(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        copy = value.detach()
        if value.requires_grad and torch.is_grad_enabled():
            leaves.append(copy.requires_grad_())
        return copy

    own_args, own_kwargs = [alone(value) for value in args], {name: alone(value) for name, value in kwargs.items()}
    synchronize = torch.cuda.synchronize if any(_is_cuda(value) for value in own_args) else _nothing

    def run() -> None:
        y = kernel.run(*own_args, **own_kwargs)
        if leaves:
            loss = y.square().sum() if second_order else y.sum()
            found = torch.autograd.grad(loss, leaves, create_graph=second_order, allow_unused=True)
            if second_order:
                penalty = torch.stack([gradient.square().sum() for gradient in found if gradient is not None]).sum()
                torch.autograd.grad(penalty, leaves, allow_unused=True)
        synchronize()

    return run


def _describe(value: Any, gradients: bool) -> str:
    import torch

    if not isinstance(value, torch.Tensor):
        return str(value)
    needs = " grad" if gradients and value.requires_grad else ""
    sides = "x".join([str(index(side)) for side in value.shape])  # under torch.compile a size becomes a constant
    return str(value.dtype) + " " + sides + " " + str(value.device) + needs


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

"""What can run on this machine: a verdict, versions, devices, plugins, and the kernels of each op.

A kernel that cannot run has the reason, and a command only if running it would make the kernel available. To probe them
takes seconds, so a report without problems is kept in the cache until packages, plugins, devices, drivers, compilers,
the environment or the boot of the machine are others.
"""

from __future__ import annotations

import glob
import logging
import os
import platform
import re
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ganblocks.json_cache import cached
from registry import Kernel, Op, cache_folder, catalogue
from registry.catalogue import PROJECT
from registry.errors import nearest
from registry.spec_file import installed_version

PACKAGES = (
    *("ganblocks", "torch", "numpy", "pydantic", "pluggy", "safetensors", "accelerate", "timm"),
    *("open_clip_torch", "pillow", "scikit-learn", "matplotlib", "triton", "natten", "xformers"),
)
DEVICE_FILES = ("/dev/nvidia*", "/dev/nvidia-caps/*", "/dev/kfd", "/dev/dri/render*", "/dev/dxg", "/dev/accel*")
DRIVER_FILES = ("/proc/driver/nvidia/version", "/sys/module/amdgpu/version", "/proc/sys/kernel/random/boot_id")
VARIABLES = re.compile(
    r"(CUDA|NVIDIA|HIP|ROCR?|HSA|TORCH|PYTORCH|TRITON|GANBLOCKS|OMP|MKL|KMP|XFORMERS|NATTEN)_|LD_LIBRARY_PATH$|CXX$"
)
COMPILERS = ("c++", "g++", "clang++", "nvcc")


def diagnose(*, refresh: bool = False) -> dict[str, Any]:
    """The report of `ganblocks doctor`, as plain data.

    Args:
        refresh: Probe everything, also if there is a valid report in the cache.
    """
    return cached("doctor", _probe, state=_machine(), refresh=refresh, keep=lambda report: not _problems(report))


def _probe() -> dict[str, Any]:
    from blocks.ops import native

    with _without_warnings():
        catalogue.load()
        catalogue.load_commands()
        report: dict[str, Any] = {
            "versions": {"python": platform.python_version(), **{name: installed_version(name) for name in PACKAGES}},
            "platform": platform.platform(),
            "devices": devices(),
            "plugins": plugins(),
            "failures": dict(catalogue.failures),
            "conflicts": list(catalogue.conflicts.values()),
            "ops": [
                {"op": name, "kernels": [kernel | {"op": name} for kernel in _kernels(op)]}
                for name, op in sorted(Op.ops.items())
            ],
            "problems": [*_missing_packages(), *_without_op(), *native.problems(), *_cache_problems()],
            "probed": datetime.now().isoformat(" ", "seconds"),
        }
    return {"verdict": verdict(report)} | report


def verdict(report: dict[str, Any]) -> str:
    """The report in one sentence."""
    count = _problems(report)
    faster = sum(kernel["enable"] is not None for op in report["ops"] for kernel in op["kernels"])
    state = "everything needed is here"
    if count:
        state = f"{count} thing{'s need' if count > 1 else ' needs'} attention"
    if not faster:
        return state
    return f"{state}; {faster} faster kernel{'s' if faster > 1 else ''} could be enabled"


def _problems(report: dict[str, Any]) -> int:
    return sum(len(report[name]) for name in ("failures", "conflicts", "problems"))


def _machine() -> list[Any]:
    """What a report depends on beside installed packages and plugins; read in milliseconds."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    environment = {name: value for name, value in sorted(os.environ.items()) if VARIABLES.match(name)}
    compilers = [shutil.which(name) for name in (*COMPILERS, os.environ.get("CXX", "c++").partition(" ")[0])]
    hardware = [sorted(glob.glob(pattern)) for pattern in DEVICE_FILES]
    drivers = [Path(file).read_text() for file in DRIVER_FILES if os.path.isfile(file)]
    return [platform.platform(), platform.node(), threads, environment, compilers, hardware, drivers, _cache_state()]


def _cache_state() -> list[tuple[Any, ...]]:
    """Owners and modes of the folders of compiled code and kernel choices, sizes and times of the choices."""
    try:
        folder = cache_folder.folder()
        folders = [path for path in (folder, folder / "compiled") if path.exists()]
        owners = [(str(path), path.stat().st_uid, path.stat().st_mode) for path in folders]
        choices = [(path, path.stat()) for path in sorted(folder.glob("kernels-*.json"))]
        return [*owners, *((str(path), status.st_size, status.st_mtime_ns) for path, status in choices)]
    except OSError:  # without a folder nothing is kept
        return []


def devices() -> list[str]:
    """The devices that torch can use."""
    import torch

    names = [f"cpu ({torch.get_num_threads()} threads)"]
    names += [f"cuda:{index} ({torch.cuda.get_device_name(index)})" for index in range(torch.cuda.device_count())]
    return names + (["mps"] if torch.backends.mps.is_available() else [])


def plugins() -> list[dict[str, Any]]:
    """The plugins that are loaded, with the number of their blocks."""
    counts = Counter(entry.origin for entry in catalogue.entries())
    return [{**origin._asdict(), "blocks": counts[origin]} for origin in catalogue.plugins()]


def _kernels(op: Op) -> list[dict[str, Any]]:
    return [
        {
            "kernel": kernel.name,
            "priority": kernel.priority,
            "second_order": kernel.second_order,
            "forward_ad": kernel.forward_ad,
            "package": type(kernel).__module__.partition(".")[0],
            "unavailable": (reason := kernel.unavailable()),
            "enable": _command(kernel) if reason else None,
        }
        for kernel in op.kernels()
    ]


def _command(kernel: Kernel) -> str | None:
    """The command that makes an unavailable kernel available, if there is one that would."""
    import torch

    without_device = getattr(kernel, "device", None) == "cuda" and not torch.cuda.is_available()
    installed = kernel.library is not None and installed_version(kernel.library) is not None
    return None if without_device or installed else kernel.enable


def _missing_packages() -> list[str]:
    """The packages that ganblocks needs and that are not installed."""
    lines = [line for line in metadata.requires("ganblocks") or [] if "extra ==" not in line]
    names = [match[0] for line in lines if (match := re.match(r"[\w.-]+", line))]
    return [f"{name} is not installed: pip install {name}" for name in names if installed_version(name) is None]


def _without_op() -> Iterator[str]:
    """The kernels of other packages whose op does not exist."""
    for origin in catalogue.plugins():
        for sort, name, value in catalogue.provided_by(origin):
            if sort == "kernel" and value.op not in Op.ops and origin.package != PROJECT:
                fact = f"the kernel {name} of {origin} is of op {value.op!r}, which does not exist"
                yield f"{fact}; {nearest(value.op, list(Op.ops))}"


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Context manager that hides warnings and log messages of libraries, which the report has as reasons."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _cache_problems() -> list[str]:
    """What is wrong with the cached choices of kernels."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for op in Op.ops.values():
            op.bind("tune")
    return list(dict.fromkeys(str(each.message) for each in caught))

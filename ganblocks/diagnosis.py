"""What can run on this machine: a verdict, versions, devices, plugins, and the kernels of each op.

A kernel that cannot run has the reason, and a command only if running it would make the kernel available.
"""

from __future__ import annotations

import logging
import platform
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from blocks.ops import native
from registry import Kernel, Op, catalogue

PACKAGES = (
    *("ganblocks", "torch", "numpy", "pydantic", "pluggy", "safetensors", "accelerate", "einops", "timm"),
    *("open_clip_torch", "pillow", "scikit-learn", "matplotlib", "triton", "natten", "xformers"),
)


def diagnose() -> dict[str, Any]:
    """The report of `ganblocks doctor`, as plain data."""
    with _without_warnings():
        catalogue.load()
        catalogue.load_commands()
        report: dict[str, Any] = {
            "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
            "platform": platform.platform(),
            "devices": devices(),
            "plugins": plugins(),
            "failures": dict(catalogue.failures),
            "conflicts": list(catalogue.conflicts.values()),
            "ops": [
                {"op": name, "kernels": [kernel | {"op": name} for kernel in _kernels(op)]}
                for name, op in sorted(Op.ops.items())
            ],
            "problems": [*_missing_packages(), *native.problems(), *_cache_problems()],
        }
    return {"verdict": verdict(report)} | report


def verdict(report: dict[str, Any]) -> str:
    """The report in one sentence."""
    count = sum(len(report[name]) for name in ("failures", "conflicts", "problems"))
    faster = sum(kernel["enable"] is not None for op in report["ops"] for kernel in op["kernels"])
    state = "everything needed is here"
    if count:
        state = f"{count} thing{'s need' if count > 1 else ' needs'} attention"
    if not faster:
        return state
    return f"{state}; {faster} faster kernel{'s' if faster > 1 else ''} could be enabled"


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
    installed = kernel.library is not None and _version(kernel.library) is not None
    return None if without_device or installed else kernel.enable


def _missing_packages() -> list[str]:
    """The packages that ganblocks needs and that are not installed."""
    lines = [line for line in metadata.requires("ganblocks") or [] if "extra ==" not in line]
    names = [match[0] for line in lines if (match := re.match(r"[\w.-]+", line))]
    return [f"{name} is not installed: pip install {name}" for name in names if _version(name) is None]


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


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

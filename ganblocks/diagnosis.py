"""What can run on this machine: versions, devices, plugins, and the kernels of each op with reasons why some cannot."""

from __future__ import annotations

import platform
import warnings
from collections import Counter
from importlib import metadata
from typing import Any

from blocks.ops import native
from registry import Op, catalogue

PACKAGES = (
    *("ganblocks", "torch", "numpy", "pydantic", "pluggy", "safetensors", "accelerate", "einops", "timm"),
    *("open_clip_torch", "pillow", "scikit-learn", "matplotlib", "triton", "natten", "xformers"),
)


def diagnose() -> dict[str, Any]:
    """The report of `ganblocks doctor`, as plain data."""
    catalogue.load()
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "platform": platform.platform(),
        "devices": devices(),
        "plugins": plugins(),
        "failures": dict(catalogue.failures),
        "ops": [
            {"op": name, "kernels": [kernel | {"op": name} for kernel in _kernels(op)]}
            for name, op in sorted(Op.ops.items())
        ],
        "problems": [*native.problems(), *_cache_problems()],
    }


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
            "enable": kernel.enable if reason else None,
        }
        for kernel in op.kernels()
    ]


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

"""Kernels in Triton: they run on CUDA devices, and with TRITON_INTERPRET=1 on the CPU, for tests."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch
from torch import Tensor

from registry import Kernel

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class TritonKernel(Kernel):
    """A kernel in Triton, which is imported where it runs only."""

    library = "triton"

    def unavailable(self) -> str | None:
        if not INTERPRETED and not torch.cuda.is_available():
            return "runs on GPUs, and there is none here (TRITON_INTERPRET=1 runs it on the CPU, for tests)"
        if find_spec("triton") is None:
            return "triton is not installed; torch's CUDA wheels bring it, and `pip install triton` adds it"
        return None

    def unsupported_map(self, x: Tensor) -> list[str]:
        """The reasons against a map's device and dtype."""
        reasons = []
        if x.device.type != "cuda" and not (INTERPRETED and x.device.type == "cpu"):
            reasons.append(f"runs on CUDA devices only, not on {x.device.type}")
        if x.dtype not in DTYPES:
            reasons.append("computes in float32, float16 or bfloat16 only")
        return reasons

"""Neighborhood attention by natten's fused CUDA kernels: https://github.com/SHI-Labs/NATTEN, version 0.21 or later.

Faster neighborhood attention, Hassani et al. 2024, https://arxiv.org/abs/2403.04690.

What natten supports depends on how it was built, so a small call is tried instead of reading its version. Each of its
wheels is built for one release of torch and of CUDA.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from registry import Kernel, RegisterKernel, hookimpl

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
WHEELS = {  # releases of torch: natten's last release with wheels for them, and their releases of CUDA
    (2, 10): ("0.21.6", ("12.6", "12.8", "13.0")),
    (2, 11): ("0.21.6", ("12.6", "12.8", "13.0")),
    (2, 12): ("0.21.7", ("12.6", "13.0", "13.2")),
    (2, 13): ("0.21.7", ("12.6", "13.0", "13.2")),
}


def install_command(torch_version: str, cuda: str | None) -> tuple[str | None, str]:
    """The command that installs a wheel for a release of torch, and why there is none.

    Args:
        torch_version: As in `torch.__version__`.
        cuda: The release of CUDA that torch is built with; None without CUDA.
    """
    major, minor = (int(part) for part in torch_version.split(".")[:2])
    natten, releases = WHEELS.get((major, minor), ("", ()))
    if cuda is not None and cuda in releases:
        wheel = f"{natten}+torch{major}{minor}0cu{cuda.replace('.', '')}"
        return f"pip install natten=={wheel} -f https://whl.natten.org", ""
    built = f"torch {major}.{minor} {f'with CUDA {cuda}' if cuda else 'without CUDA'}"
    first, last = (".".join(map(str, release)) for release in (min(WHEELS), max(WHEELS)))
    others = f"with CUDA {' or '.join(releases)}" if releases else f"for torch {first} to {last}"
    return None, f"it has no wheel for {built}, only {others}; https://natten.org/install tells how to compile it"


INSTALL, NO_WHEEL = install_command(torch.__version__, torch.version.cuda)
MISSING = "natten is not installed (its fused kernels need a CUDA device)" + (f"; {NO_WHEEL}" if NO_WHEEL else "")


class Natten(Kernel):
    """natten.na2d; its gradient cannot be differentiated again."""

    op, name, priority = "neighborhood_attention", "natten", 50
    library, enable = "natten", INSTALL
    device = "cuda"

    na2d: Callable[..., Any]

    def __init__(self) -> None:
        self._unavailable: list[str | None] = []  # the reason, once it is known

    def unavailable(self) -> str | None:
        if not self._unavailable:
            self._unavailable.append(self._probe())
        return self._unavailable[0]

    def _probe(self) -> str | None:
        try:
            natten = import_module("natten")
            self.na2d = natten.na2d
        except ModuleNotFoundError as error:
            return MISSING if error.name == "natten" else f"natten cannot be imported: {error}"
        except Exception as error:  # a library built for another torch fails in many ways
            return f"natten cannot be imported: {type(error).__name__}: {error}"
        if not getattr(natten, "HAS_LIBNATTEN", True):
            cure = f"{INSTALL} installs it" if INSTALL else NO_WHEEL
            return f"natten was installed without its compiled library; {cure}"
        if self.device == "cuda" and not torch.cuda.is_available():
            return "natten's fused kernels need a CUDA device, and there is none"
        try:
            q = torch.zeros(1, 4, 4, 1, 32, device=self.device, requires_grad=True)
            self.na2d(q, q, q, kernel_size=3).sum().backward()
        except Exception as error:
            return f"natten does not run here: {type(error).__name__}: {error}"
        return None

    def unsupported(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        kernel_size: int,
        dilation: int = 1,
        bias: Tensor | None = None,
        scale: float | None = None,
    ) -> list[str]:
        reasons = []
        if q.device.type != self.device:
            reasons.append(f"runs on {self.device} only, not on {q.device.type}")
        if bias is not None:
            reasons.append("supports no position bias")
        if not (q.dtype == k.dtype == v.dtype and q.dtype in DTYPES):
            dtypes = f"{q.dtype}, {k.dtype} and {v.dtype}"
            reasons.append(f"q, k and v should have one dtype of float16, bfloat16 and float32, not {dtypes}")
        if q.shape[-1] % 8 or v.shape[-1] != q.shape[-1]:
            reasons.append(f"needs one head size that is a multiple of 8, not {q.shape[-1]} and {v.shape[-1]}")
        if kernel_size < 2:
            reasons.append("needs windows of 2 pixels or more")
        if scale == 0:
            reasons.append("replaces a scale of zero by its default")
        gradients = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
        if gradients and torch.are_deterministic_algorithms_enabled():
            reasons.append(
                "has deterministic gradients only in its back end cutlass-fna, without parallelism over keys"
            )
        return reasons

    def run(
        self,
        q: Float[Tensor, "b h w n d"],
        k: Float[Tensor, "b h w n d"],
        v: Float[Tensor, "b h w n d"],
        *,
        kernel_size: int,
        dilation: int = 1,
        bias: Float[Tensor, "n r r"] | None = None,
        scale: float | None = None,
    ) -> Float[Tensor, "b h w n d"]:
        assert bias is None, "natten supports no position bias"
        y: Tensor = self.na2d(q, k, v, kernel_size=kernel_size, dilation=dilation, scale=scale)
        return y


@hookimpl
def register_kernels(register: RegisterKernel) -> None:
    register(Natten())

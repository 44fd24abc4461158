"""Dense attention by xformers' memory_efficient_attention on CUDA: https://github.com/facebookresearch/xformers.

Rabe and Staats 2021, https://arxiv.org/abs/2112.05682.

xformers can be imported without any compiled kernel, so each kind of call is tried once. Its wheel is built with CUDA
12; beside a torch with CUDA 13 it needs the runtime of CUDA 12 too.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from registry import Kernel, RegisterKernel, hookimpl

ALIGNMENT = {torch.float16: 8, torch.bfloat16: 8, torch.float32: 4}  # 16 bytes
MISSING = "xformers is not installed (its kernels need a CUDA device)"
RUNTIME = "nvidia-cuda-runtime-cu12"
FOLDER = '$(python -c "import nvidia.cuda_runtime as m; print(m.__path__[0])")/lib'


def install_command(cuda: str | None) -> str:
    """The command that installs xformers, and for a torch with CUDA 13 or later the runtime of CUDA 12.

    Args:
        cuda: The release of CUDA that torch is built with; None without CUDA.
    """
    if cuda is None or int(cuda.partition(".")[0]) <= 12:
        return "pip install xformers"
    return f"pip install xformers {RUNTIME} && export LD_LIBRARY_PATH={FOLDER}:$LD_LIBRARY_PATH"


class MemoryEfficient(Kernel):
    """xformers.ops.memory_efficient_attention; its gradient cannot be differentiated again.

    Only kernel="xformers" and "tune" select it, since PyTorch's own kernels are as fast.
    """

    op, name, priority = "attention", "xformers", 5
    library, enable = "xformers", install_command(torch.version.cuda)
    device = "cuda"

    attend: Callable[..., Any]

    def __init__(self) -> None:
        self._unavailable: list[str | None] = []  # the reason, once it is known
        self.supported: tuple[tuple[torch.dtype, bool], ...] = ()  # dtype, with bias

    def unavailable(self) -> str | None:
        if not self._unavailable:
            self._unavailable.append(self._probe())
        return self._unavailable[0]

    def _probe(self) -> str | None:
        log = logging.getLogger("xformers")
        log.addFilter(_nothing)  # it logs, at every import, what the reason below says
        try:
            self.attend = import_module("xformers.ops").memory_efficient_attention
        except ModuleNotFoundError as error:
            return MISSING if error.name == "xformers" else f"xformers cannot be imported: {error}"
        except Exception as error:  # a library built for another torch fails in many ways
            return f"xformers cannot be imported: {type(error).__name__}: {error}"
        finally:
            log.removeFilter(_nothing)
        if failure := getattr(sys.modules.get("xformers._cpp_lib"), "_cpp_library_load_exception", None):
            return _unloaded(failure)
        if self.device == "cuda" and not torch.cuda.is_available():
            return "xformers' kernels need a CUDA device, and there is none"
        failure = ""
        for dtype in ALIGNMENT:
            for with_bias in (False, True):
                try:
                    q = torch.zeros(1, 8, 1, 32, device=self.device, dtype=dtype, requires_grad=True)
                    bias = torch.zeros(1, 1, 8, 8, device=self.device, dtype=dtype) if with_bias else None
                    self.attend(q, q, q, attn_bias=bias, scale=0.5).sum().backward()
                    self.supported = (*self.supported, (dtype, with_bias))
                except Exception as error:
                    failure = f"{type(error).__name__}: {error}"
        return None if self.supported else f"xformers does not run here: {failure}"

    def unsupported(
        self, q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None, scale: float | None = None
    ) -> list[str]:
        reasons = []
        if q.device.type != self.device:
            reasons.append(f"runs on {self.device} only, not on {q.device.type}")
        if not q.dtype == k.dtype == v.dtype:
            reasons.append(f"q, k and v should have one dtype, not {q.dtype}, {k.dtype} and {v.dtype}")
        if (q.dtype, bias is not None) not in self.supported:
            reasons.append(f"has no kernel for {q.dtype} {'with' if bias is not None else 'without'} bias here")
        alignment = ALIGNMENT.get(q.dtype, 1)
        if q.shape[-1] % alignment or v.shape[-1] % alignment:
            reasons.append(f"needs head sizes that are multiples of {alignment}, not {q.shape[-1]} and {v.shape[-1]}")
        if bias is not None and k.shape[-2] % alignment:
            reasons.append(f"needs a multiple of {alignment} keys for a bias, not {k.shape[-2]}")
        leaves = (q, k, v) if bias is None else (q, k, v, bias)
        gradients = torch.is_grad_enabled() and any(leaf.requires_grad for leaf in leaves)
        if gradients and torch.are_deterministic_algorithms_enabled():
            reasons.append("its gradients are not deterministic")
        return reasons

    def drawbacks(self, *args: Tensor, **options: object) -> list[str]:
        return ["PyTorch's own kernels are as fast"]

    def run(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h m d"],
        v: Float[Tensor, "b h m e"],
        *,
        bias: Float[Tensor, "*#h #n #m"] | None = None,
        scale: float | None = None,
    ) -> Float[Tensor, "b h n e"]:
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        if bias is not None:  # expanded by a copy: xformers does not sum its gradient over broadcast axes
            bias = bias.to(q.dtype).expand(*q.shape[:-1], k.shape[-2]).contiguous()
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # b n heads head_dim
        y: Tensor = self.attend(q, k, v, attn_bias=bias, scale=scale)
        return y.transpose(1, 2)


def _nothing(record: logging.LogRecord) -> bool:
    """A filter that no record passes."""
    return False


def _unloaded(failure: BaseException) -> str:
    """Why xformers' compiled library is not loaded."""
    while failure.__cause__ is not None:
        failure = failure.__cause__
    cause = str(failure).strip().splitlines()[0]
    reason = f"xformers' compiled library cannot be loaded: {cause}"
    if "libcudart.so.12" not in cause:
        return reason
    return f"{reason}; it is built with CUDA 12: install {RUNTIME} and add its folder lib to LD_LIBRARY_PATH"


@hookimpl
def register_kernels(register: RegisterKernel) -> None:
    register(MemoryEfficient())

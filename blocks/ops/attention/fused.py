"""What the kernels share that are one back end of PyTorch's scaled_dot_product_attention on CUDA.

The order is measured on an H200: cuDNN, FlashAttention, the memory-efficient kernel, with the exceptions that their
`drawbacks` name. They call the back end's operator. torch.nn.attention.sdpa_kernel selects a back end too, but by flags
of the whole process, which threads share.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from registry import Kernel

ALIGNMENT = 16  # bytes that a load of a fused kernel takes at once
HALF = (torch.float16, torch.bfloat16)
ROW = 16  # numbers that the rows of a bias are padded to
FEW_KEYS = 64  # up to this number the memory-efficient kernel is faster than the others


class Fused(Kernel):
    """Base of the fused back ends; their gradients cannot be differentiated again."""

    op = "attention"
    device: ClassVar[str] = "cuda"
    dtypes: ClassVar[tuple[torch.dtype, ...]] = HALF
    capability: ClassVar[tuple[int, int]] = (8, 0)
    """The lowest compute capability that it is built for."""
    operator: ClassVar[Any]
    """PyTorch's operator; its first output is the result."""

    def unavailable(self) -> str | None:
        if not torch.cuda.is_available():
            return "needs a CUDA device, and there is none"
        if torch.version.cuda is None:
            return "needs a device by NVIDIA"
        capability = torch.cuda.get_device_capability()
        if capability < self.capability:
            needed, present = (".".join(map(str, each)) for each in (self.capability, capability))
            return f"needs compute capability {needed}, and this device has {present}"
        return None

    def unsupported(
        self, q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None, scale: float | None = None
    ) -> list[str]:
        reasons = []
        if q.device.type != self.device:
            reasons.append(f"runs on {self.device} only, not on {q.device.type}")
        if not (q.dtype == k.dtype == v.dtype and q.dtype in self.dtypes):
            dtypes, names = f"{q.dtype}, {k.dtype} and {v.dtype}", " or ".join(map(str, self.dtypes))
            reasons.append(f"q, k and v should have one dtype, {names}, not {dtypes}")
        if q.numel() == 0 or k.numel() == 0 or v.numel() == 0:
            reasons.append("takes no empty tensors")
        if q.stride(-1) != 1 or k.stride(-1) != 1 or v.stride(-1) != 1:
            reasons.append("needs the channels of a head side by side in memory")
        return reasons

    def run(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h m d"],
        v: Float[Tensor, "b h m e"],
        *,
        bias: Float[Tensor, "*#h #n #m"] | None = None,
        scale: float | None = None,
    ) -> Float[Tensor, "b h n e"]:
        bias = None if bias is None else aligned_bias(bias.to(q.dtype), q, k)
        with_statistics = torch.is_grad_enabled()  # for gradients
        y: Tensor = self.operator(q, k, v, bias, with_statistics, scale=scale)[0]
        return y


def few_keys(k: Tensor) -> list[str]:
    """The drawback of a back end that is made for long sequences, if there is one."""
    keys = k.shape[-2]
    return [f"'efficient' is faster with {keys} keys, up to {FEW_KEYS}"] if keys <= FEW_KEYS else []


def misaligned(x: Tensor) -> bool:
    """Whether a row of x [B,heads,N,d] starts at an address that `ALIGNMENT` does not divide."""
    start = 0 if torch.compiler.is_compiling() else x.storage_offset()  # which cannot be traced
    return any(offset * x.element_size() % ALIGNMENT for offset in (start, *x.stride()[:-1]))


def aligned_bias(bias: Tensor, q: Tensor, k: Tensor) -> Float[Tensor, "b h n m"]:
    """The bias of each query and key as a view whose rows start at multiples of `ROW` numbers."""
    keys = k.shape[-2]
    if keys % ROW or bias.shape[-1] != keys or misaligned(bias) or not bias.is_contiguous():
        bias = F.pad(bias.expand(*bias.shape[:-1], keys).contiguous(), (0, -keys % ROW))[..., :keys]
    return bias.expand(*q.shape[:-1], keys)

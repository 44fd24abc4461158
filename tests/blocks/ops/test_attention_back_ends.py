"""SDPA's back ends as kernels: their reasons, the order in which they are chosen, and what their operators get."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from blocks.ops.attention import attention
from blocks.ops.attention.cudnn import Cudnn
from blocks.ops.attention.efficient import Efficient
from blocks.ops.attention.flash import Flash
from blocks.ops.attention.fused import ROW, Fused, aligned_bias
from blocks.ops.attention.sdpa import Sdpa
from registry import KernelError, recording, second_order
from tests.tensors import normal

BACK_ENDS = (Flash, Cudnn, Efficient)
H200 = SimpleNamespace(major=9, multi_processor_count=132)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...]]]:
    """The back ends on the CPU, with operators that compute by the reference; returns their calls."""
    ran: list[tuple[str, tuple[int, ...]]] = []

    def operator(name: str) -> Any:
        def compute(q: Tensor, k: Tensor, v: Tensor, bias: Any = None, statistics: bool = True, *, scale: Any) -> Any:
            ran.append((name, tuple(q.shape)))
            return (attention.reference.run(q, k, v, bias=bias, scale=scale),)

        return staticmethod(compute)

    monkeypatch.setattr(Fused, "device", "cpu")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: H200)
    for kernel in BACK_ENDS:
        monkeypatch.setattr(kernel, "operator", operator(kernel.name))
        monkeypatch.setattr(kernel, "unavailable", lambda self: None)
    return ran


def qkv(head_dim: int = 16, dtype: torch.dtype = torch.float16, keys: int = 7) -> list[Tensor]:
    return [normal(2, 3, n, head_dim, seed=seed, dtype=dtype) for seed, n in enumerate((10, keys, keys))]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("kernel", BACK_ENDS)
def test_a_machine_without_cuda_is_the_reason(kernel):
    assert kernel().unavailable() == "needs a CUDA device, and there is none"


@pytest.mark.parametrize(
    ("kernel", "call", "reason"),
    [
        (
            Flash,
            {"dtype": torch.float32},
            "one dtype, torch.float16 or torch.bfloat16, not torch.float32, torch.float32",
        ),
        (Flash, {"head_dim": 264}, "needs one head size of at most 256, not 264 and 264"),
        (Flash, {"keys": 0}, "takes no empty tensors"),
        (Cudnn, {"head_dim": 20}, "needs head sizes that are multiples of 8 up to 128, not 20 and 20"),
        (Cudnn, {"keys": 1}, "needs two keys or more"),
        (Efficient, {"dtype": torch.float64}, "torch.float16 or torch.bfloat16 or torch.float32"),
        (Efficient, {"head_dim": 12}, "needs head sizes that are multiples of 8, not 12 and 12"),
        (Efficient, {"head_dim": 6, "dtype": torch.float32}, "needs head sizes that are multiples of 4, not 6 and 6"),
    ],
)
def test_each_back_end_has_reasons_of_its_own(calls, kernel, call, reason):
    (refusal,) = kernel().unsupported(*qkv(**call))
    assert reason in refusal
    with pytest.raises(KernelError, match=f"{kernel.name}: "):
        attention(*qkv(**call), kernel=kernel.name)


def test_biases_strides_and_determinism_are_reasons(calls):
    q, k, v = qkv()
    bias = torch.zeros(3, 10, 7, dtype=torch.float16)
    assert Flash().unsupported(q, k, v, bias=bias) == ["takes no bias"]
    assert Cudnn().unsupported(q, k, v, bias=bias) == []
    assert Cudnn().unsupported(q, k, v, bias=bias.requires_grad_()) == ["computes no gradient of the bias"]
    (refusal,) = Flash().unsupported(q.mT.contiguous().mT, k, v)
    assert refusal == "needs the channels of a head side by side in memory"
    (refusal,) = Efficient().unsupported(q, torch.zeros(2, 3, 7, 17, dtype=torch.float16)[..., 1:], v)
    assert refusal == "needs rows of q, k and v that start at multiples of 16 bytes"
    torch.use_deterministic_algorithms(True)
    try:
        assert Cudnn().unsupported(q, k, v) == Flash().unsupported(q.requires_grad_(), k, v) == []
        assert Cudnn().unsupported(q, k, v) == ["its gradients are not deterministic"]
    finally:
        torch.use_deterministic_algorithms(False)


def test_they_run_on_cuda_only():
    q, k, v = (x.to("meta") for x in qkv())
    for kernel in BACK_ENDS:
        assert kernel().unsupported(q, k, v) == ["runs on cuda only, not on meta"]


def chosen(*args: Tensor, **options: Any) -> str:
    with recording() as ran:
        attention(*args, **options)
    return ran[-1][1]


def test_the_choice_depends_on_dtype_head_size_number_of_keys_and_bias(calls, monkeypatch):
    bias = torch.zeros(3, 10, 128)
    assert chosen(*qkv(keys=64)) == "efficient"
    assert chosen(*qkv(keys=128)) == "cudnn"
    assert chosen(*qkv(20, keys=128)) == "flash"
    assert chosen(*qkv(keys=128), bias=bias.half()) == "cudnn"
    assert chosen(*qkv(keys=128), bias=bias.half().requires_grad_()) == "efficient"
    assert chosen(*qkv(dtype=torch.float32)) == "efficient"
    assert chosen(*qkv(dtype=torch.float64)) == "sdpa"
    assert chosen(*qkv(head_dim=6, dtype=torch.float32)) == "sdpa"
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=8))
    assert chosen(*qkv(keys=128)) == "flash"
    with second_order():
        assert chosen(*qkv()) == "reference"
    with recording() as ran:
        torch.func.jvp(lambda q: attention(q, *qkv()[1:]), (qkv()[0],), (qkv()[0],))
    assert ran == [("attention", "reference")]


def test_few_long_rows_in_float32_are_matrix_products(calls):
    def rows(matrices: int, queries: int, keys: int, **options: bool) -> str:
        q, k = (torch.empty(1, matrices, n, 4) for n in (queries, keys))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Efficient, "run", lambda self, q, k, v: q)
            patch.setattr(Sdpa, "drawbacks", lambda self, *args, **options: ["as on CUDA"])
            patch.setattr(type(attention.reference), "run", lambda self, q, k, v: q)
            return chosen(q.requires_grad_(options.get("gradients", False)), k, k)

    assert rows(6, 256, 256) == "reference"  # 24 thread blocks
    assert rows(6, 64, 64) == "efficient"  # short rows
    assert rows(79, 64, 256) == "reference"
    assert rows(80, 64, 256) == "efficient"
    assert rows(131, 64, 256, gradients=True) == "reference"
    assert rows(132, 64, 256, gradients=True) == "efficient"
    assert rows(2, 4224, 256) == "efficient"
    assert rows(2, 4224, 256, gradients=True) == "reference"  # 8 in the backward pass
    assert rows(1, 8000, 8000) == "efficient"  # attention weights of 256 MB


@pytest.mark.parametrize("head_dim", [5, 16])
def test_flash_attention_pads_heads_to_multiples_of_eight_channels(calls, head_dim):
    q, k, v = qkv(head_dim)
    y = attention(q, k, v, kernel="flash")
    assert calls == [("flash", (2, 3, 10, -(-head_dim // 8) * 8))]
    torch.testing.assert_close(y, attention.reference.run(q, k, v))


@pytest.mark.parametrize("shape", [(3, 10, 7), (10, 7), (3, 1, 7), (3, 10, 1), (2, 1, 1, 7), (1, 3, 10, 7)], ids=str)
@pytest.mark.parametrize("kernel", [Efficient, Cudnn])
def test_a_bias_is_expanded_to_aligned_rows(calls, kernel, shape):
    q, k, v = qkv()
    bias = normal(*shape, seed=4, dtype=torch.float32)
    rows = aligned_bias(bias.half(), q, k)
    assert rows.shape == (2, 3, 10, 7)
    assert rows.stride(-1) == 1
    assert all(stride % ROW == 0 for stride in rows.stride()[:-1])
    y = attention(q, k, v, bias=bias, kernel=kernel.name)
    torch.testing.assert_close(y, attention.reference.run(q, k, v, bias=bias.half()))


def test_an_aligned_bias_is_not_copied():
    q, k, _ = qkv(keys=32)
    bias = torch.zeros(3, 10, 32, dtype=torch.float16)
    assert aligned_bias(bias, q, k).data_ptr() == bias.data_ptr()
    assert aligned_bias(torch.zeros(961, dtype=torch.float16)[1:].view(3, 10, 32), q, k).storage_offset() == 0


def test_their_reasons_are_traced(calls):
    attend = attention.bind()
    q, k, v = qkv(head_dim=12, dtype=torch.float32)
    bias = torch.zeros(3, 10, 7, dtype=torch.float64)
    compiled = torch.compile(lambda *x: attend(*x[:3], bias=x[3]), fullgraph=True, backend="aot_eager")
    exact = [x.double() for x in (q, k, v)]
    torch.testing.assert_close(compiled(*exact, bias), attention.reference.run(*exact, bias=bias))

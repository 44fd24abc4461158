"""The kernels of natten and xformers, on stubs with the signatures of the libraries: calls, results and refusals."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import plugins.natten
import plugins.xformers
from blocks.ops.attention import attention
from blocks.ops.neighborhood_attention import neighborhood_attention
from ganblocks import diagnosis as doctor
from plugins.natten import Natten
from plugins.xformers import MemoryEfficient
from registry import IncompatibleError, KernelError, Op, catalogue, recording, second_order


class DifferentiableOnce(torch.autograd.Function):
    """The identity with a gradient that, like a fused kernel's, cannot be differentiated again."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return y.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.clone()


@pytest.fixture
def natten(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def na2d(query, key, value, kernel_size, stride=1, dilation=1, is_causal=False, scale=None, backend=None):
        calls.append({"kernel_size": kernel_size, "dilation": dilation, "scale": scale, "shape": tuple(query.shape)})
        run = neighborhood_attention.reference.run
        return DifferentiableOnce.apply(run(query, key, value, kernel_size=kernel_size, dilation=dilation, scale=scale))

    module = ModuleType("natten")
    module.na2d, module.HAS_LIBNATTEN = na2d, True
    monkeypatch.setitem(sys.modules, "natten", module)
    monkeypatch.setattr(Natten, "device", "cpu")
    return calls


@pytest.fixture
def xformers(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def memory_efficient_attention(query, key, value, attn_bias=None, p=0.0, scale=None, *, op=None, output_dtype=None):
        if query.dtype == torch.float32 and attn_bias is not None:
            raise NotImplementedError("No operator found")
        calls.append({"query": tuple(query.shape), "bias": None if attn_bias is None else tuple(attn_bias.shape)})
        heads_first = (x.transpose(1, 2) for x in (query, key, value))
        y = attention.reference.run(*heads_first, bias=attn_bias, scale=scale)
        return DifferentiableOnce.apply(y).transpose(1, 2)

    package, ops = ModuleType("xformers"), ModuleType("xformers.ops")
    ops.memory_efficient_attention = memory_efficient_attention
    monkeypatch.setitem(sys.modules, "xformers", package)
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)
    monkeypatch.setattr(MemoryEfficient, "device", "cpu")
    return calls


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Registers a new kernel of an op in place of the plugin's."""

    def replace(op: Op, kernel: Any) -> Any:
        others = [each for each in op.kernels() if each.name != kernel.name]
        kernels = sorted([*others, kernel], key=lambda each: -each.priority)
        monkeypatch.setattr(op, "kernels", lambda: kernels)
        return kernel

    return replace


def maps(*shape: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.randn(shape, generator=torch.Generator().manual_seed(i)).to(dtype) for i in range(3)]


def test_both_are_registered_by_entry_point():
    assert {"natten", "xformers"} <= {each["plugin"] for each in doctor.plugins()}
    assert "natten" in [kernel.name for kernel in catalogue.kernels("neighborhood_attention")]
    assert "xformers" in [kernel.name for kernel in catalogue.kernels("attention")]


@pytest.mark.parametrize(
    ("kernel", "library", "module"), [(Natten, "natten", "natten"), (MemoryEfficient, "xformers", "xformers.ops")]
)
def test_the_reason_is_what_keeps_the_library_from_running(kernel, library, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    assert f"{library}" in kernel().unavailable()
    monkeypatch.delitem(sys.modules, module)

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == library:
                raise failure
            return None

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    failure: Exception = ModuleNotFoundError(f"No module named {library!r}", name=library)
    assert kernel().unavailable().startswith(f"{library} is not installed")
    failure = OSError("libcudart.so.13: cannot open shared object file")
    assert kernel().unavailable() == (
        f"{library} cannot be imported: OSError: libcudart.so.13: cannot open shared object file"
    )
    failure = ModuleNotFoundError("No module named 'triton'", name="triton")
    assert kernel().unavailable() == f"{library} cannot be imported: No module named 'triton'"


def test_natten_without_its_compiled_library_is_unavailable(natten, monkeypatch):
    sys.modules["natten"].HAS_LIBNATTEN = False
    monkeypatch.setattr(plugins.natten, "INSTALL", "pip install natten==1")
    assert (
        Natten().unavailable() == "natten was installed without its compiled library; pip install natten==1 installs it"
    )
    monkeypatch.setattr(plugins.natten, "INSTALL", None)
    monkeypatch.setattr(plugins.natten, "NO_WHEEL", "it has no wheel for torch 2.9")
    assert Natten().unavailable().endswith("without its compiled library; it has no wheel for torch 2.9")


@pytest.mark.parametrize(
    ("torch_version", "cuda", "wheel"),
    [
        ("2.10.0+cu128", "12.8", "0.21.6+torch2100cu128"),
        ("2.11.0+cu130", "13.0", "0.21.6+torch2110cu130"),
        ("2.12.1+cu126", "12.6", "0.21.7+torch2120cu126"),
        ("2.13.0+cu132", "13.2", "0.21.7+torch2130cu132"),
    ],
)
def test_the_command_names_nattens_wheel_for_this_torch(torch_version, cuda, wheel):
    command = f"pip install natten=={wheel} -f https://whl.natten.org"
    assert plugins.natten.install_command(torch_version, cuda) == (command, "")


@pytest.mark.parametrize(
    ("torch_version", "cuda", "reason"),
    [
        ("2.9.1+cu128", "12.8", "it has no wheel for torch 2.9 with CUDA 12.8, only for torch 2.10 to 2.13"),
        ("2.14.0.dev1+cu132", "13.2", "it has no wheel for torch 2.14 with CUDA 13.2, only for torch 2.10 to 2.13"),
        ("2.13.0+cu128", "12.8", "it has no wheel for torch 2.13 with CUDA 12.8, only with CUDA 12.6 or 13.0 or 13.2"),
        ("2.13.0+cpu", None, "it has no wheel for torch 2.13 without CUDA, only with CUDA 12.6 or 13.0 or 13.2"),
    ],
)
def test_the_reason_says_that_natten_has_no_wheel_for_this_torch(torch_version, cuda, reason):
    command, why = plugins.natten.install_command(torch_version, cuda)
    assert command is None
    assert why.startswith(reason)


def test_beside_a_torch_with_cuda_13_xformers_needs_the_runtime_of_cuda_12():
    assert plugins.xformers.install_command(None) == plugins.xformers.install_command("12.8") == "pip install xformers"
    command = plugins.xformers.install_command("13.0")
    assert command.startswith("pip install xformers nvidia-cuda-runtime-cu12 && export LD_LIBRARY_PATH=$(python -c ")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            "libcudart.so.12: cannot open shared object file: No such file or directory",
            "it is built with CUDA 12: install nvidia-cuda-runtime-cu12 and add its folder lib to LD_LIBRARY_PATH",
        ),
        ("undefined symbol: _ZN3c10", "xformers' compiled library cannot be loaded: undefined symbol: _ZN3c10"),
    ],
)
def test_a_compiled_library_that_cannot_be_loaded_is_a_reason_and_prints_nothing(
    xformers, monkeypatch, caplog, error, reason
):
    """xformers logs the failure when it is imported, and its operators raise later."""
    library = ModuleType("xformers._cpp_lib")
    library._cpp_library_load_exception = RuntimeError("xFormers can't load C++/CUDA extensions.")
    library._cpp_library_load_exception.__cause__ = RuntimeError("Could not load this library")
    library._cpp_library_load_exception.__cause__.__cause__ = OSError(error)

    def import_module(name):
        logging.getLogger("xformers").warning("WARNING[XFORMERS]: xFormers can't load C++/CUDA extensions.")
        monkeypatch.setitem(sys.modules, "xformers._cpp_lib", library)
        return sys.modules[name]

    monkeypatch.setattr(plugins.xformers, "import_module", import_module)
    assert MemoryEfficient().unavailable().endswith(reason)
    assert not caplog.records
    logging.getLogger("xformers").warning("other warnings are printed")
    assert len(caplog.records) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_machine_without_cuda_is_the_reason(natten, xformers, monkeypatch):
    for kernel in (Natten, MemoryEfficient):
        monkeypatch.setattr(kernel, "device", "cuda")
        assert kernel().unavailable().endswith("need a CUDA device, and there is none")


def test_a_library_that_raises_when_tried_is_unavailable_with_its_error(natten, xformers, monkeypatch):
    def broken(*_args: Any, **_options: Any) -> Tensor:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(sys.modules["natten"], "na2d", broken)
    monkeypatch.setattr(sys.modules["xformers.ops"], "memory_efficient_attention", broken)
    error = "does not run here: RuntimeError: no kernel image is available"
    assert Natten().unavailable() == f"natten {error}"
    assert MemoryEfficient().unavailable() == f"xformers {error}"
    with pytest.raises(IncompatibleError, match="kernel 'natten' cannot run here"):
        neighborhood_attention.bind("natten")


def test_natten_computes_the_calls_that_it_supports(natten, register):
    kernel = register(neighborhood_attention, Natten())
    q, k, v = maps(2, 6, 7, 2, 8)
    attend = neighborhood_attention.bind()
    natten.clear()  # the calls of the probe
    with recording() as ran:
        y = attend(q, k, v, kernel_size=3, dilation=2, scale=0.4)
    assert ran == [("neighborhood_attention", "natten")]
    assert natten == [{"kernel_size": 3, "dilation": 2, "scale": 0.4, "shape": (2, 6, 7, 2, 8)}]
    expected = neighborhood_attention.reference.run(q, k, v, kernel_size=3, dilation=2, scale=0.4)
    torch.testing.assert_close(y, expected)
    assert kernel.unsupported(q, k, v, kernel_size=3) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bias": torch.zeros(2, 5, 5)}, "supports no position bias"),
        ({"dtype": torch.float64}, "one dtype of float16, bfloat16 and float32"),
        ({"head_dim": 12}, "needs one head size that is a multiple of 8, not 12 and 12"),
        ({"kernel_size": 1}, "needs windows of 2 pixels or more"),
        ({"scale": 0.0}, "replaces a scale of zero by its default"),
        ({"device": "meta"}, "runs on cpu only, not on meta"),
    ],
    ids=lambda case: "-".join(case) if isinstance(case, dict) else None,
)
def test_natten_refuses_with_a_reason(natten, register, change, reason):
    kernel = register(neighborhood_attention, Natten())
    call = {"kernel_size": 3} | {name: change[name] for name in ("bias", "kernel_size", "scale") if name in change}
    tensors = maps(1, 6, 6, 2, change.get("head_dim", 8), dtype=change.get("dtype", torch.float32))
    tensors = [x.to(change.get("device", "cpu")) for x in tensors]
    (refusal,) = kernel.unsupported(*tensors, **call)
    assert reason in refusal
    with pytest.raises(KernelError, match=reason):
        neighborhood_attention.bind("natten")(*tensors, **call)
    with recording() as ran:
        if "device" not in change:
            neighborhood_attention.bind()(*tensors, **call)
    assert ("neighborhood_attention", "natten") not in ran


@pytest.mark.parametrize("bias_shape", [None, (2, 6, 8), (6, 8), (3, 2, 6, 8), (2, 1, 8)], ids=str)
def test_xformers_computes_attention_with_and_without_bias(xformers, register, bias_shape):
    register(attention, MemoryEfficient())
    attend = attention.bind("xformers")
    xformers.clear()
    q, (k, v) = maps(3, 2, 6, 16)[0].half(), (x.half() for x in maps(3, 2, 8, 16)[1:])
    bias = None if bias_shape is None else torch.randn(bias_shape, generator=torch.Generator().manual_seed(3)).half()
    leaves = [q, k, v, *([] if bias is None else [bias])]
    for leaf in leaves:
        leaf.requires_grad_()
    y, expected = attend(q, k, v, bias=bias), attention.reference.run(q, k, v, bias=bias)
    torch.testing.assert_close(y, expected, rtol=1e-2, atol=1e-2)
    assert xformers == [{"query": (3, 6, 2, 16), "bias": None if bias is None else (3, 2, 6, 8)}]
    gradients, expected_gradients = (torch.autograd.grad(each.sum(), leaves) for each in (y, expected))
    torch.testing.assert_close(gradients, expected_gradients, rtol=2e-2, atol=2e-2)


def test_xformers_refuses_with_all_its_reasons(xformers, register):
    kernel = register(attention, MemoryEfficient())
    assert kernel.unavailable() is None
    assert (torch.float32, False) in kernel.supported
    assert (torch.float32, True) not in kernel.supported  # it was tried, and raised
    q, k, v = maps(1, 2, 6, 6)
    bias = torch.zeros(2, 6, 6)
    assert kernel.unsupported(q, k, v, bias=bias) == [
        "has no kernel for torch.float32 with bias here",
        "needs head sizes that are multiples of 4, not 6 and 6",
        "needs a multiple of 4 keys for a bias, not 6",
    ]
    assert kernel.unsupported(q.half(), k.half(), v)[0].startswith("q, k and v should have one dtype")
    (refusal,) = kernel.unsupported(*(x.to("meta") for x in maps(1, 2, 8, 8)))
    assert refusal == "runs on cpu only, not on meta"
    with recording() as ran:
        attention(q, k, v, bias=bias)
    assert ran == [("attention", "sdpa")]


@pytest.mark.parametrize(("op", "kernel"), [(neighborhood_attention, Natten), (attention, MemoryEfficient)])
def test_second_order_mode_refuses_them(natten, xformers, register, op, kernel):
    register(op, kernel())
    call = {"kernel_size": 3} if op is neighborhood_attention else {}
    tensors = [x.requires_grad_() for x in maps(1, 4, 4, 4, 8)[: 3 if call else 0] or maps(1, 2, 4, 8)]
    attend = op.bind()

    def penalty(y: Tensor) -> None:
        (gradient,) = torch.autograd.grad(y.square().sum(), tensors[0], create_graph=True)
        gradient.square().sum().backward()

    with pytest.raises(RuntimeError, match="once_differentiable"):
        penalty(op.bind(kernel.name)(*tensors, **call))
    with second_order(), recording() as ran:
        penalty(attend(*tensors, **call))
    assert kernel.name not in [name for _, name in ran]
    with second_order(), pytest.raises(KernelError, match="has no second derivative"):
        op.bind(kernel.name)(*tensors, **call)


def test_their_gradients_are_refused_with_deterministic_algorithms(natten, xformers, register):
    kernels = register(neighborhood_attention, Natten()), register(attention, MemoryEfficient())
    assert [kernel.unavailable() for kernel in kernels] == [None, None]
    torch.use_deterministic_algorithms(True)
    try:
        for differentiated in (True, False):
            qkv = [x.requires_grad_(differentiated) for x in maps(1, 4, 4, 1, 8)]
            reason = "has deterministic gradients only in its back end cutlass-fna, without parallelism over keys"
            assert kernels[0].unsupported(*qkv, kernel_size=3) == [reason][: int(differentiated)]
            qkv = [x.requires_grad_(differentiated) for x in maps(1, 1, 4, 8)]
            reason = "its gradients are not deterministic"
            assert kernels[1].unsupported(*qkv) == [reason][: int(differentiated)]
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(("op", "kernel"), [(neighborhood_attention, Natten), (attention, MemoryEfficient)])
def test_their_refusals_can_be_traced(natten, xformers, register, op, kernel):
    register(op, kernel())
    attend, call = op.bind(), {"kernel_size": 3} if op is neighborhood_attention else {}
    compiled = torch.compile(lambda *x: attend(*x, **call), fullgraph=True, backend="aot_eager")
    tensors = maps(1, 4, 4, 4, 12) if call else maps(1, 2, 4, 12)
    torch.testing.assert_close(compiled(*tensors), op.reference.run(*tensors, **call))


def test_doctor_reports_the_reason_and_the_install_command():
    kernels = {(op["op"], each["kernel"]): each for op in doctor.diagnose()["ops"] for each in op["kernels"]}
    for key, extra in ((("neighborhood_attention", "natten"), "natten"), (("attention", "xformers"), "xformers")):
        if not torch.cuda.is_available():
            assert kernels[key]["enable"] is None  # it would change nothing
        elif (
            kernels[key]["unavailable"] and find_spec(extra) is None and (extra == "xformers" or plugins.natten.INSTALL)
        ):
            assert kernels[key]["enable"].startswith(f"pip install {extra}")
    assert kernels["attention", "sdpa"]["enable"] is None

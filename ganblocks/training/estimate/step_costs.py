"""Memory and arithmetic of a training step, from a step on the meta device.

The step is that of the trainer: the same phases call the same networks forward and backward, second derivatives
included, on tensors without data. Every storage is counted while it lives.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map
from torch.utils.flop_counter import flop_registry

from assemblies import Generator
from assemblies.condition import cond_dim_of
from blocks.families import Batch
from ganblocks.precision import DTYPES, Precision
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.optimizer import NamedRegularizer, NetworkOptimizer
from ganblocks.training.step.micro_batches import PhaseLosses
from ganblocks.training.trainer import Trainer
from registry import Spec
from registry.kernels import counting, wants_second_order

IN_16_BITS = {
    *(torch.matmul, torch.bmm, torch.baddbmm, torch.addmm, torch.einsum, Tensor.matmul, Tensor.__matmul__),
    *(F.linear, F.conv1d, F.conv2d, F.conv_transpose2d, torch.conv2d, F.scaled_dot_product_attention),
}


COPIES = 3  # of a batch of images: real ones, generated ones, and those that are presented


class StepCosts(NamedTuple):
    """What a training step of one process needs.

    Args:
        peak_bytes: Largest memory of activations, gradients and temporary tensors at any time of the step.
        gradient_bytes: Gradients of the network that has more.
        flops: Floating-point operations in matrix products and convolutions, lazy regularizers at their share.
        float32_flops: Those among them that run in float32 in every precision: phases with second derivatives.
        optimizer_steps: Optimizer steps of each network in a training step, lazy ones at their share.
        convolves: Whether it has convolutions that cuDNN may do by FFT or Winograd: stride 1, at least 3 pixels wide.
    """

    peak_bytes: int
    gradient_bytes: int
    flops: float
    float32_flops: float
    optimizer_steps: dict[str, float]
    convolves: bool = False


def step_costs(spec: Spec, batch_size: int, precision: Precision = "fp32", micro_batch: int | None = None) -> StepCosts:
    """The costs of a training step.

    Args:
        spec: A `GAN.Spec` without problems.
        batch_size: Images of one process in a step.
        precision: Of the forward passes.
        micro_batch: Images of a pass; None for all of them.
    """
    with counting():
        arithmetic = _run(spec, batch_size, "fp32" if precision == "fp32" else "tf32", None)
    optimizers = arithmetic.optimizers
    gradients = [sum(each.nbytes for each in optimizer.parameters.values()) for optimizer in optimizers.values()]
    once, second = arithmetic.observer.flops, arithmetic.observer.float32_flops
    for phase_flops, phase_second, every in arithmetic.lazy:
        once, second = once - phase_flops * (1 - 1 / every), second - phase_second * (1 - 1 / every)
    steps = {name: 1 + sum(1 / each.every for each in optimizer.lazy) for name, optimizer in optimizers.items()}
    peak = peak_bytes(spec, batch_size, precision, micro_batch)
    return StepCosts(peak, max(gradients), once, second, steps, arithmetic.observer.convolves)


def peak_bytes(spec: Spec, batch_size: int, precision: Precision = "fp32", micro_batch: int | None = None) -> int:
    """Largest memory of activations, gradients and temporary tensors; arguments are those of `step_costs`.

    Of many passes only the first two are traced; of the other images, only the batch itself takes memory.
    """
    traced = batch_size if micro_batch is None else min(batch_size, 2 * micro_batch)
    trainer = _run(spec, traced, precision, micro_batch)
    image: int = 4 * math.prod((trainer.generator.image_channels, *trainer.generator.resolution))
    peak: int = trainer.observer.peak
    return peak + COPIES * image * (batch_size - traced)


class Observer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts floating-point operations, and the bytes of storages made while it is open that live at the same time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.float32_flops = 0.0
        self.second_order = False  # whether a backward pass with second derivatives runs
        self.bytes = self.peak = 0
        self.convolves = False
        self.known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        inputs = {each.untyped_storage() for each in tree_iter((args, kwargs)) if isinstance(each, Tensor)}
        result = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            flops = flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=result)
            self.flops += flops
            self.float32_flops += flops if self.second_order or wants_second_order() else 0
        if func is torch.ops.aten.convolution.default:
            self.convolves |= args[1].shape[-1] >= 3 and set(args[3]) == {1}  # the weight, the stride
        for each in tree_iter(result):
            if isinstance(each, Tensor) and (storage := each.untyped_storage()) not in inputs:
                self.add(storage)
        return result

    def add(self, storage: torch.UntypedStorage) -> None:
        """Count a storage until it is freed."""
        if storage in self.known:
            return
        self.known.add(storage)
        self.bytes += storage.nbytes()
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self.subtract, storage.nbytes())

    def subtract(self, num_bytes: int) -> None:
        self.bytes -= num_bytes


class MetaContext(DistributedContext):
    """One process on the meta device. Autocast is the CPU's, which `Functions` applies to tensors on that device."""

    def __init__(self, precision: Precision) -> None:
        super().__init__("meta")
        self.precision = precision

    def autocast(self, enabled: bool = True) -> AbstractContextManager[object]:
        half = self.precision in DTYPES
        return torch.autocast("cpu", torch.bfloat16, enabled and half) if half else nullcontext()


class Functions(TorchFunctionMode):
    """Functions on the meta device as on a GPU: 16 bits where autocast is on, attention without its weights."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if torch.is_autocast_enabled("cpu") and func in IN_16_BITS:
            args, kwargs = tree_map(_in_16_bits, (tuple(args), kwargs))
        if func is F.scaled_dot_product_attention and not wants_second_order():
            return _fused_attention(*args, **kwargs)
        return func(*args, **kwargs)


def _fused_attention(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, *_: Any, **options: Any
) -> Tensor:
    if attn_mask is not None and attn_mask.requires_grad:
        return F.scaled_dot_product_attention(q, k, v, attn_mask, **options)
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    attended: Tensor = flash(q, k, v, attn_mask=attn_mask, scale=options.get("scale"))[0]
    return attended


def _in_16_bits(value: Any) -> Any:
    return value.bfloat16() if isinstance(value, Tensor) and value.dtype == torch.float32 else value


class MetaTrainer(Trainer):
    """A trainer on the meta device whose optimizer steps only free the gradients."""

    def __init__(self, spec: Spec, precision: Precision, micro_batch: int | None) -> None:
        with torch.device("meta"):
            super().__init__(spec, MetaContext(precision), micro_batch=micro_batch)
        self.observer = Observer()
        self.lazy: list[tuple[float, float, int]] = []  # of each lazy regularizer: operations, in float32, `every`
        every_step = (each for optimizer in self.optimizers.values() for each in (*optimizer.main, *optimizer.lazy))
        self.second_order = {each.name for each in every_step if each.regularizer.second_order}

    def regularizer_phase(self, optimizer: NetworkOptimizer, regularizer: NamedRegularizer, batch: Batch) -> Tensor:
        flops, float32_flops = self.observer.flops, self.observer.float32_flops
        norm = super().regularizer_phase(optimizer, regularizer, batch)
        spent = (self.observer.flops - flops, self.observer.float32_flops - float32_flops)
        self.lazy.append((*spent, regularizer.every))
        return norm

    def backward(self, losses: PhaseLosses, factor: float) -> None:
        self.observer.second_order = not self.second_order.isdisjoint(losses.losses)
        super().backward(losses, factor)
        self.observer.second_order = False

    def optimizer_step(
        self, optimizer: NetworkOptimizer, losses: Mapping[str, Tensor], clip_norm: float | None = None
    ) -> Tensor:
        for parameter in optimizer.parameters.values():
            parameter.grad = None
        return torch.zeros((), device="meta")


def _run(spec: Spec, batch_size: int, precision: Precision, micro_batch: int | None) -> MetaTrainer:
    """A trainer after its first step, in which all lazy regularizers are due."""
    spec = type(spec).model_validate(spec.to_dict() | {"batch_size": batch_size})
    trainer = MetaTrainer(spec, precision, micro_batch)
    size, generator = trainer.batch_size, trainer.generator
    real = torch.empty(size, generator.image_channels, *generator.resolution, device="meta")
    cond_dim = cond_dim_of(spec.generator)
    c = torch.empty(size, cond_dim, device="meta") if cond_dim else None
    needs_pixels = any(each.needs_pixels for each in trainer.gan.regularizers)
    pixels = torch.empty(size, *generator.picture_shape, device="meta") if needs_pixels else None
    tokens = _tokens(generator, size) if spec.trainable.condition else None
    with trainer.observer, Functions():
        trainer.optimize(real, c, tokens, pixels)
    return trainer


def _tokens(generator: Generator, count: int) -> Tensor | None:
    """What a trained condition encodes: class indices [B], or token ids of captions [B,n]."""
    if (condition := generator.condition) is None:
        return None
    label = "" if condition.condition_input == "captions" else 0
    return torch.empty(count, *condition.read([label]).shape[1:], dtype=torch.int64, device="meta")

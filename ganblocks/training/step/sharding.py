"""Sharded networks: each process holds a part of each parameter, its gradient, its average and Adam's moments.

ZeRO stage 3, Rajbhandari et al. 2019, https://arxiv.org/abs/1910.02054, by FSDP2:
https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html. A step's parameters are gathered before its
forward and backward pass and freed after it. A gathered parameter has no second derivative, so that only phases of
first order run.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from assemblies import GAN, Generator
from ganblocks.errors import RunError
from ganblocks.training.distributed import DistributedContext
from registry import Spec

INSTEAD = {"r1": "approximate-r1", "r2": "approximate-r2", "gradient-penalty": "approximate-r1"}
OTHER_CALLS = ("token-alignment",)  # they call more of a network than its forward pass


def check_shardable(spec: Spec, distributed: DistributedContext, settings: Mapping[str, Any], non_finite: str) -> None:
    """Check that a training can run with sharded networks.

    Args:
        spec: A `GAN.Spec`.
        distributed: Processes and precision.
        settings: The settings of a run.
        non_finite: Its option `non_finite`.

    Raises:
        RunError: It cannot; the message names the reason and the cure.
    """
    if distributed.shard.world == 1:
        raise RunError("--strategy fsdp shards networks over processes, and there is 1; start several with torchrun")
    for name in ("compile", "cuda_graphs", "init_generator", "init_discriminator"):
        if settings[name]:
            raise RunError(f"--strategy fsdp does not support --{name.replace('_', '-')}; omit it")
    if distributed.precision == "fp16":
        raise RunError("--strategy fsdp does not scale losses as fp16 needs; take --precision bf16")
    if non_finite == "retry-in-float32":
        raise RunError("--strategy fsdp cannot repeat a phase; take --non-finite skip")
    check_document(spec)


def check_document(spec: Spec) -> None:
    """Check that the networks of a document can be sharded.

    Raises:
        RunError: They cannot; the message names the reason and the cure.
    """
    if spec.ema.sigma_rel:
        raise RunError("--strategy fsdp shards one average, and ema.sigma_rel asks for more; set it to []")
    for index, regularizer in enumerate(spec.regularizers):
        place, kind = f"--strategy fsdp: regularizers.{index}: {regularizer.kind}", str(regularizer.kind)
        if regularizer.block.second_order:
            cure = f"take {INSTEAD[kind]}" if kind in INSTEAD else "remove it"
            raise RunError(f"{place} needs second derivatives, which sharded networks do not have; {cure}")
        if kind in OTHER_CALLS:
            raise RunError(f"{place} calls parts of the discriminator, which are not gathered then; remove it")


class Sharding:
    """Shards the networks of a GAN and the average of its generator.

    Args:
        gan: The GAN; its parameters become sharded.
        average: The averaged generator; from the first update on it has parameters only inside `gathered`.
        distributed: Device, processes and precision: with bf16, parameters are gathered and used in bfloat16.
    """

    def __init__(self, gan: GAN, average: Generator, distributed: DistributedContext) -> None:
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)
        self.mesh: DeviceMesh = init_device_mesh(distributed.device.type, (distributed.shard.world,))
        dtypes = {"param_dtype": torch.bfloat16, "reduce_dtype": torch.float32}
        policy = MixedPrecisionPolicy(**dtypes if distributed.precision == "bf16" else {}, cast_forward_inputs=False)
        gan.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.source = gan.generator
        self.average = average
        self.filled = True  # until the first update
        generator: Any = gan.generator
        discriminator: Any = gan.discriminator
        steps = [*generator.synthesis, generator.mapping, *getattr(discriminator, "steps", ()), discriminator]
        for module in steps if generator.condition is None else [generator.condition, *steps]:
            scalars = {each for each in module.parameters() if each.dim() == 0}  # they are not sharded
            if any(each.dim() for each in module.parameters()):
                fully_shard(
                    module, mesh=self.mesh, reshard_after_forward=True, mp_policy=policy, ignored_params=scalars
                )
        pairs = zip(generator.parameters(), average.parameters(), strict=True)  # a decoder's are not sharded
        self.shards = [self.like(parameter, target.detach().contiguous()) for parameter, target in pairs]

    @torch.no_grad()
    def update(self, beta: float) -> None:
        """average <- beta average + (1 - beta) generator for parameters; buffers are copied."""
        if self.filled:
            self.free()
        sources = [local(parameter.detach()) for parameter in self.source.parameters()]
        torch._foreach_lerp_([local(each) for each in self.shards], sources, 1 - beta)
        for target, source in zip(self.average.buffers(), self.source.buffers(), strict=True):
            target.copy_(source)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """A context in which the average has its parameters in every process; all processes enter it."""
        if self.filled:
            yield
            return
        self.fill()
        try:
            yield
        finally:
            self.free()

    def fill(self) -> None:
        """Gather the parameters of the average, for good."""
        for parameter, value in zip(self.average.parameters(), self.shards, strict=True):
            parameter.data = whole(value)
        self.filled = True

    def free(self) -> None:
        """Free the parameters of the average."""
        for parameter in self.average.parameters():
            parameter.data = torch.empty(0, dtype=parameter.dtype, device=parameter.device)
        self.filled = False

    def like(self, value: Tensor, source: Tensor) -> Tensor:
        """A whole tensor, which all processes have, sharded as another one is."""
        if not isinstance(value, DTensor):
            return source
        return distribute_tensor(source.to(value.device), self.mesh, value.placements, src_data_rank=None)


def local(value: Tensor) -> Tensor:
    """The part of a tensor that this process holds; the tensor itself if it is not sharded."""
    part: Tensor = value.to_local() if isinstance(value, DTensor) else value
    return part


def whole(value: Tensor) -> Tensor:
    """A whole tensor; all processes call it."""
    gathered: Tensor = value.full_tensor() if isinstance(value, DTensor) else value
    return gathered

"""Averaging gradients over processes: one exchange after the backward pass, or buckets exchanged during it.

torchrun --nproc-per-node 2 -m benchmarks.gradient_reduction [--quick], then with 4, prints a table and writes JSON into
benchmarks/results. Timed is the main phase of the discriminator, forward and backward pass. The buckets are those of
DistributedDataParallel, Li et al. 2020, https://arxiv.org/abs/2006.15704, section 3.2, without its restriction to one
forward pass per backward pass.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from assemblies import GAN, parse, read
from benchmarks import measure
from blocks.families import Batch
from ganblocks.training.distributed import DistributedContext, destroy_process_group
from ganblocks.training.trainer import Trainer

BUCKET_BYTES = (2**20, 25 * 2**20)  # the first bucket and the others, as in DistributedDataParallel


class Buckets:
    """Gradients of parameters that are copied into buckets when they are ready, and exchanged when a bucket is full."""

    def __init__(self, parameters: Sequence[nn.Parameter], sizes: tuple[int, int] = BUCKET_BYTES) -> None:
        self.buckets: list[list[nn.Parameter]] = [[]]
        for parameter in reversed(parameters):  # about the order of the backward pass
            limit = sizes[len(self.buckets) > 1]
            if self.buckets[-1] and sum(each.nbytes for each in self.buckets[-1]) + parameter.nbytes > limit:
                self.buckets.append([])
            self.buckets[-1].append(parameter)
        self.flat = [torch.zeros(sum(each.numel() for each in bucket)) for bucket in self.buckets]
        self.active, self.missing = False, [0]
        self.works: list[distributed.Work] = []
        for index, (bucket, flat) in enumerate(zip(self.buckets, self.flat, strict=True)):
            for parameter, view in zip(bucket, torch.split(flat, [each.numel() for each in bucket]), strict=True):
                parameter.register_post_accumulate_grad_hook(self.hook(index, view))  # type: ignore[no-untyped-call]

    def hook(self, index: int, view: Tensor) -> Callable[[Tensor], None]:
        def copy(parameter: Tensor) -> None:
            if not self.active:
                return
            assert parameter.grad is not None
            view.copy_(parameter.grad.flatten())
            self.missing[index] -= 1
            if self.missing[index] == 0:
                work = distributed.all_reduce(self.flat[index], async_op=True)
                assert work is not None
                self.works.append(work)

        return copy

    def begin(self) -> None:
        self.active, self.missing, self.works = True, [len(bucket) for bucket in self.buckets], []

    def finish(self) -> None:
        """Wait, and write the means to the gradients."""
        self.active = False
        for work in self.works:
            work.wait()
        for bucket, flat in zip(self.buckets, self.flat, strict=True):
            flat /= distributed.get_world_size()
            for parameter, mean in zip(bucket, torch.split(flat, [each.numel() for each in bucket]), strict=True):
                assert parameter.grad is not None
                parameter.grad.copy_(mean.view_as(parameter.grad))


def phases(trainer: Trainer) -> dict[str, Callable[[], object]]:
    """The main phase of the discriminator without an exchange, with one, and with buckets."""
    count, channels = trainer.batch_size, trainer.generator.image_channels
    real = torch.randn(count, channels, *trainer.generator.resolution)
    optimizer = trainer.optimizers["discriminator"]
    optimizer.set_trainable(True)
    batch = Batch(real=real, fake=real.flip(0), z=trainer.draw_z())
    parameters = list(optimizer.parameters.values())

    def backward() -> list[Tensor]:
        for parameter in parameters:
            parameter.grad = None
        _, loss = trainer.adversarial_loss(optimizer, batch)
        torch.autograd.backward(loss)
        return list(optimizer.gradients().values())

    backward()
    buckets = Buckets([each for each in parameters if each.grad is not None])

    def in_buckets() -> None:
        buckets.begin()
        backward()
        buckets.finish()

    return {
        "no exchange": backward,
        "barrier": distributed.barrier,  # or the next one would wait for the slower process of this one
        "one exchange": lambda: trainer.distributed.all_reduce_mean(backward()),
        "buckets": in_buckets,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, and no file")
    options = parser.parse_args()
    context = DistributedContext("cpu")
    rows = []
    for name in ("mini-stylenat",):
        spec = parse(read(name, GAN).to_dict() | {"regularizers": [], "batch_size": 4 * context.shard.world})
        runs = phases(Trainer(spec, context))
        times = measure.interleaved(runs, rounds=3 if options.quick else 25)
        del times["barrier"]
        rows.append({"preset": name, "processes": context.shard.world} | measure.medians(times))
    if context.is_main:
        print(measure.table(rows))
        file = f"gradient-reduction-cpu-{context.shard.world}-processes.json"
        path = None if options.quick else Path(measure.RESULTS) / file
        measure.save(path, measure.machine(), rows)
    destroy_process_group()


if __name__ == "__main__":
    main()

"""The training step of a GAN: a discriminator step, a generator step, and an update of the averaged weights.

Phases as in StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, section 3.1: the adversarial loss with the
regularizers of every step, then each lazy regularizer by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial

import torch
from torch import Tensor

from assemblies import GAN
from assemblies.documents import schedules_in
from blocks.common.autocast import at_least_float32
from blocks.families import Batch, Networks, to_channels_last
from blocks.families.training import scalar
from ganblocks.training import ema
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.generator import TrainingGenerator
from ganblocks.training.logs.meter import Meter
from ganblocks.training.optimizer import NamedRegularizer, NetworkOptimizer, named_regularizers, names_undeclared
from ganblocks.training.options import NonFinitePolicy
from ganblocks.training.step.augmentation import augmentation, augmentations
from ganblocks.training.step.compilation import compiled
from ganblocks.training.step.graphs import StepGraphs, check_capturable, host_numbers
from ganblocks.training.step.micro_batches import MicroBatches, PhaseLosses, observed_logits
from ganblocks.training.step.non_finite import Float32Retry, NonFiniteSteps, check_policy
from ganblocks.training.step.shared_logits import shared_images, with_gradients
from registry import Spec, second_order


class Trainer:
    """The networks of a GAN, their optimizers, and everything else that changes during training.

    Args:
        spec: A `GAN.Spec`.
        distributed: Device, precision and processes.
        compile: Whether torch.compile compiles both networks; phases with second derivatives stay eager.
        cuda_graphs: Whether CUDA graphs capture the phases of a step.
        micro_batch: Images of this process in one pass; gradients of several passes are accumulated. None for all.
        sharded: Whether each process holds a part of every parameter: FSDP2.
        non_finite: What follows an optimizer step with non-finite gradients, which is skipped.

    Raises:
        RunError: The steps of the document cannot be captured, or the precision rules out the policy `non_finite`.
    """

    def __init__(
        self,
        spec: Spec,
        distributed: DistributedContext,
        *,
        compile: bool = False,
        cuda_graphs: bool = False,
        micro_batch: int | None = None,
        sharded: bool = False,
        non_finite: NonFinitePolicy = "skip",
    ) -> None:
        self.spec = spec
        self.distributed = distributed
        self.batch_size = int(spec.batch_size) // distributed.shard.world  # images per process
        self.gan: GAN = to_channels_last(spec.build()).to(distributed.device).train()
        self.generator, self.discriminator = self.gan.generator, self.gan.discriminator
        self.generator_ema = ema.ema_copy(self.generator)
        self.power_averages = {sigma_rel: ema.ema_copy(self.generator) for sigma_rel in spec.ema.sigma_rel}
        self.sharding = distributed.shard_networks(self.gan, self.generator_ema) if sharded else None
        self.augment = augmentation(self.gan)
        self.augments = list(augmentations(self.gan))
        training_generator = TrainingGenerator(
            self.generator, style_mixing=spec.style_mixing, trains_condition=spec.trainable.condition
        )
        self.micro_batches = MicroBatches(micro_batch, self.gan, distributed.all_reduce_mean)
        value_range, batch_mean = self.generator.value_range, self.micro_batches.batch_mean
        self.networks = Networks(training_generator, self.discriminator, self.augment, value_range, batch_mean)
        self.main_networks = compiled(self.networks) if compile else self.networks
        self.optimizers = {
            name: NetworkOptimizer(
                name,
                getattr(self.gan, name),
                getattr(spec, f"{name}_optimizer"),
                [each for each in named_regularizers(self.gan.regularizers) if each.regularizer.side == name],
                capturable=cuda_graphs,
            )
            for name in ("discriminator", "generator")
        }
        for optimizer in self.optimizers.values():
            optimizer.set_trainable(sharded)  # FSDP2 chooses the type of gradients at the first pass
        self.shared = shared_images(self.optimizers["discriminator"].main, self.augment, distributed.precision, compile)
        self.step = 0
        self.schedules = schedules_in(spec)
        self.losses, self.signals = Meter(), Meter()
        self.non_finite = NonFiniteSteps(distributed.device)
        check_policy(non_finite, distributed.precision, cuda_graphs=cuda_graphs)
        meters = (self.losses, self.signals)
        in_float32 = non_finite == "retry-in-float32"
        retry = Float32Retry(distributed, self.gan, meters, self.non_finite) if in_float32 else None
        self.attempt: Callable[[Callable[[], Tensor]], Tensor] = retry or (lambda phase: phase())
        self.graphs = self.step_graphs() if cuda_graphs else None

    def gathered(self) -> AbstractContextManager[None]:
        """A context in which the averaged generator has its parameters in every process; all processes enter it."""
        return nullcontext() if self.sharding is None else self.sharding.gathered()

    @property
    def images(self) -> int:
        """Number of real images in all steps so far, over all processes."""
        return self.step * int(self.spec.batch_size)

    def train_step(
        self, real: Tensor, c: Tensor | None, tokens: Tensor | None = None, pixels: Tensor | None = None
    ) -> None:
        """One training step. It never waits for the device.

        Args:
            real: Real images [B,K,H,W] in the generator's value range.
            c: Their condition vectors [B,D]; None for an unconditional GAN.
            tokens: What a trained condition of the generator encodes; None without one.
            pixels: The images that real images encode, if these are latents and the data contain the images.
        """
        self.follow_schedules()
        (self.graphs or self.optimize)(real, c, tokens, pixels)
        buffers = self.generator.mapping.buffers()  # mean styles
        self.distributed.all_reduce_mean([buffer for buffer in buffers if buffer.is_floating_point()])
        beta = ema.decay(self.spec.ema, self.spec.batch_size, self.images)
        if self.sharding is None:
            ema.update(self.generator_ema, self.generator, beta)
        else:
            self.sharding.update(beta)
        self.step += 1
        for sigma_rel, average in self.power_averages.items():
            ema.update(average, self.generator, ema.power_decay(sigma_rel, self.step))

    def follow_schedules(self) -> None:
        """Set what depends on the number of images: learning rates, strengths of augmentations and regularizers."""
        for optimizer in self.optimizers.values():
            done = (self.images + self.spec.batch_size) / 1000
            optimizer.set_rates(done, self.spec.kimg - self.images / 1000, self.images)
        for part in (*self.augments, *self.gan.regularizers):
            part.at(self.images)

    def step_graphs(self) -> StepGraphs:
        """Graphs of `optimize`."""
        device, processes = self.distributed.device, self.distributed.shard.world
        check_capturable(self.spec, self.gan, device, processes, self.micro_batches.size)
        return StepGraphs(self.optimize, self.host_state, self.distributed.device)

    def host_state(self) -> Hashable:
        """What the host's code of a step depends on."""
        optimizers = self.optimizers.values()
        due = tuple(each.name for optimizer in optimizers for each in optimizer.due_at(self.step))
        return due, host_numbers([*self.augments, *self.gan.regularizers])

    def optimize(self, real: Tensor, c: Tensor | None, tokens: Tensor | None, pixels: Tensor | None) -> None:
        """The phases of a step: all optimizer steps of the discriminator, then those of the generator."""
        discriminator, generator = self.optimizers["discriminator"], self.optimizers["generator"]
        with self.distributed.tf32(), discriminator.trainable():
            batch = Batch(real=real, z=self.draw_z(), c=c, tokens=tokens, pixels=pixels)
            fake = self.attempt(lambda: self.draw_fakes(batch))
            presented = real if self.gan.augment is None else self.gan.augment.mix(real, fake)
            phase_batch = with_gradients(batch._replace(real=presented, fake=fake), self.shared)
            self.run_phases(discriminator, lambda: phase_batch)
        with self.distributed.tf32(), generator.trainable():
            z = batch.z if self.spec.same_latents else None
            self.run_phases(generator, lambda: Batch(real, z=self.draw_z() if z is None else z, c=c, tokens=tokens))

    def draw_fakes(self, batch: Batch) -> Tensor:
        """Generated images [B,K,H,W] for the discriminator, without gradients."""
        with torch.no_grad(), self.distributed.autocast():
            parts = self.micro_batches.parts(batch)
            images = [self.main_networks.generator(part.z, part.generator_c) for part, _ in parts]
            return at_least_float32(torch.cat(images))

    def run_phases(self, optimizer: NetworkOptimizer, draw_batch: Callable[[], Batch]) -> None:
        """The main phase of a network, and those of its lazy regularizers that are due."""
        with names_undeclared(optimizer.main):
            self.attempt(partial(self.main_phase, optimizer, draw_batch()))
        for regularizer in optimizer.due_at(self.step):
            with names_undeclared([regularizer]):
                self.attempt(partial(self.regularizer_phase, optimizer, regularizer, draw_batch()))

    def main_phase(self, optimizer: NetworkOptimizer, batch: Batch) -> Tensor:
        """The adversarial loss of a network, with its regularizers of every step."""
        regularizers = [each.regularizer for each in optimizer.main]
        second = any(each.second_order for each in regularizers)

        def forward(part: Batch) -> PhaseLosses:
            with self.distributed.autocast():
                part, loss = self.adversarial_loss(optimizer, part)
            penalties = {each.name: self.penalty(each, each.regularizer.select(part)) for each in optimizer.main}
            return PhaseLosses({optimizer.name: loss} | penalties, observed_logits(optimizer.name, part))

        def backward(losses: PhaseLosses, share: float) -> None:
            with self.distributed.tf32(not second):
                self.backward(losses, share)

        needs_means = any(each.needs_batch_mean for each in regularizers)
        losses, observed = self.micro_batches.run(batch, forward, backward, needs_means=needs_means)
        if observed:
            self.observe_overfitting(observed)
        norm = self.optimizer_step(optimizer, losses, clip_norm=optimizer.clip_norm)
        self.signals.add({f"gradient/{optimizer.name}": norm}, where=norm.isfinite())
        return norm

    def regularizer_phase(self, optimizer: NetworkOptimizer, regularizer: NamedRegularizer, batch: Batch) -> Tensor:
        """An optimizer step of a lazy regularizer; its gradient is multiplied by `every`."""
        with ExitStack() as stack:
            if regularizer.regularizer.second_order:
                stack.enter_context(second_order())
                stack.enter_context(self.distributed.tf32(False))
            losses, _ = self.micro_batches.run(
                regularizer.regularizer.select(batch),
                lambda part: PhaseLosses({regularizer.name: self.penalty(regularizer, part)}, {}),
                lambda losses, share: self.backward(losses, share * regularizer.every),
                needs_means=regularizer.regularizer.needs_batch_mean,
            )
            return self.optimizer_step(optimizer, losses)

    def adversarial_loss(self, optimizer: NetworkOptimizer, batch: Batch) -> tuple[Batch, Tensor]:
        """The batch with the logits that the loss of a network depends on, and the loss."""
        if optimizer.name == "generator":
            fake = self.main_networks.generator(batch.z, batch.generator_c)
            logits = self.logits(fake, batch.c)
            batch = batch._replace(fake=fake, fake_logits=logits)
            if self.gan.loss.generator_needs_real:
                with torch.no_grad():
                    batch = batch._replace(real_logits=self.logits(batch.real, batch.c))
            loss = self.gan.loss.generator(logits, batch.real_logits)
        else:
            with second_order() if self.shared else nullcontext():
                real_logits, fake_logits = self.logits(batch.real, batch.c), self.logits(batch.fake, batch.c)
            batch = batch._replace(real_logits=real_logits, fake_logits=fake_logits)
            loss = self.gan.loss.discriminator(real_logits, fake_logits)
        return batch, scalar(self.gan.loss, loss, optimizer.name)

    def observe_overfitting(self, observed: dict[str, Tensor]) -> None:
        """Pass the mean sign of real images' logits to all augmentations, those of regularizers too: they may adapt."""
        sign = observed.pop("sign/real")
        self.losses.add(observed)
        self.distributed.all_reduce_mean([sign])
        self.signals.add({"sign/real": sign})
        for augment in self.augments:
            augment.observe(sign, int(self.spec.batch_size))

    def logits(self, images: Tensor | None, c: Tensor | None) -> Tensor:
        """The discriminator's logits of augmented images."""
        assert images is not None
        return at_least_float32(self.main_networks.discriminator(self.augment(images), c))

    def penalty(self, regularizer: NamedRegularizer, batch: Batch) -> Tensor:
        """The value of a regularizer; one with second derivatives runs in float32 and with kernels that have them."""
        block = regularizer.regularizer
        first = not block.second_order
        with self.distributed.tf32(first), self.distributed.autocast(enabled=first):
            value: Tensor = block(self.main_networks if first else self.networks, batch)
        return value

    def backward(self, losses: PhaseLosses, factor: float) -> None:
        """Add the gradients of the sum of losses times a factor."""
        total = torch.stack([at_least_float32(loss) for loss in losses.losses.values()]).sum() * factor
        scaler = self.distributed.scaler
        torch.autograd.backward(total if scaler is None else scaler.scale(total))

    def optimizer_step(
        self, optimizer: NetworkOptimizer, losses: Mapping[str, Tensor], clip_norm: float | None = None
    ) -> Tensor:
        """One optimizer step with the gradients so far; skipped if one is not finite. Losses are for the log.

        Returns:
            The norm of all gradients together before it is clipped to `clip_norm`; not finite for a skipped step.
        """
        self.losses.add(losses)
        gradients, sharded, scaler = optimizer.gradients(), optimizer.sharded, self.distributed.scaler
        self.distributed.all_reduce_mean([value for name, value in gradients.items() if name not in sharded])
        if scaler is not None:
            scaler.unscale_(optimizer.adam)
        norms = self.distributed.norms(list(gradients.values()), [name in sharded for name in gradients])
        norm: Tensor = torch.linalg.vector_norm(norms)
        finite = norm.isfinite()
        if clip_norm is not None:
            torch._foreach_mul_(list(gradients.values()), (clip_norm / (norm + 1e-6)).clamp(max=1.0))
        optimizer.step(finite)
        self.non_finite.add(f"{optimizer.name} ({'+'.join(losses)})", list(gradients), norms, finite)
        if scaler is not None:
            scaler.update()
        optimizer.adam.zero_grad(set_to_none=True)
        return norm

    def read_signals(self) -> dict[str, float]:
        """Gradient norms and signs of logits since the last call, the augmentation's strength, scheduled options."""
        strength = {} if self.gan.augment is None else self.gan.augment.strength()
        scheduled = {f"schedule/{name}": schedule.at(self.images) for name, schedule in self.schedules.items()}
        return self.signals.read() | {f"augment/{name}": value.item() for name, value in strength.items()} | scheduled

    def draw_z(self) -> Tensor:
        """Latents [B,Z] of this process."""
        return torch.randn(self.batch_size, self.generator.z_dim, device=self.distributed.device)

"""A GAN while it trains: one step is the discriminator's turn, the generator's turn, and the average of the weights.

Phases as in StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, section 3.1: the loss with the terms of
every step, then each lazy term by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from assemblies import GAN
from blocks.families import Augment, Batch, Networks
from ganblocks.errors import Diverged
from ganblocks.pixels import from_symmetric, to_symmetric
from ganblocks.training.conditions import OwnCondition
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.ema import average, decay, ema_copy
from ganblocks.training.generator import StyleMixing
from ganblocks.training.optimizer import NamedRegularizer, NetworkOptimizer, named_regularizers
from registry import Spec, second_order

PATIENCE = 20  # phases in a row with non-finite gradients, after which training stops


class Trainer:
    """Everything that changes while a GAN trains.

    Args:
        spec: A `GAN.Spec`.
        process: Where to train.
    """

    def __init__(self, spec: Spec, dist: DistributedContext) -> None:
        self.spec = spec
        self.dist = dist
        self.batch_size = int(spec.batch_size) // dist.shard.world
        self.gan: GAN = spec.build().to(dist.device, memory_format=torch.channels_last).train()
        self.generator, self.discriminator = self.gan.generator, self.gan.discriminator
        self.generator_ema = ema_copy(self.generator)
        self.augment = augmentation(self.gan)
        self.augments = [module for module in self.gan.modules() if isinstance(module, Augment)]
        self.reading = OwnCondition(self.generator) if spec.trainable.condition else None
        told = self.reading or self.generator
        mixing = StyleMixing(told, spec.style_mixing) if spec.style_mixing else told  # type: ignore[arg-type]
        self.networks = Networks(mixing, self.discriminator, self.augment, self.generator.value_range)
        terms = named_regularizers(self.gan.regularizers)
        self.optimizers = {
            name: NetworkOptimizer(
                name,
                getattr(self.gan, name),
                getattr(spec, f"{name}_optimizer"),
                [term for term in terms if term.regularizer.side == name],
                dist.device,
            )
            for name in ("discriminator", "generator")
        }
        for side in self.optimizers.values():
            side.set_trainable(False)
        self.step = 0
        self.meter, self.signals = Meter(), Meter()
        self.non_finite_in_a_row = 0

    @property
    def images(self) -> int:
        """Real images shown so far."""
        return self.step * int(self.spec.batch_size)

    def train_step(self, real: Tensor, c: Tensor | None, told: Tensor | None = None) -> None:
        """One training step on real images in the generator's range, their conditions, and what a learning one reads.

        Raises:
            Diverged: Gradients have not been finite for a long time.
        """
        discriminator, generator = self.optimizers["discriminator"], self.optimizers["generator"]
        if self.reading is not None:
            self.reading.told = told
        for side in self.optimizers.values():
            side.set_rate((self.images + self.spec.batch_size) / 1000, self.spec.kimg - self.images / 1000)
        for augment in self.augments:
            augment.at(self.images)
        with discriminator.trainable():
            z = self.draw_z()
            with torch.no_grad(), self.dist.autocast():
                fake = self.networks.generator(z, c).float()
            batch = Batch(real=real, fake=fake, z=z, c=c)
            self.main_step(discriminator, batch)
            self.lazy_steps(discriminator, batch)
        with generator.trainable():
            self.main_step(generator, Batch(real=real, z=self.draw_z(), c=c))
            for term in generator.due_at(self.step):
                self.regularizer_step(generator, term, Batch(real=real, z=self.draw_z(), c=c))
        beta = decay(self.spec.ema, self.spec.batch_size, self.images)
        average(self.generator_ema, self.generator, beta)
        self.step += 1

    def main_step(self, side: NetworkOptimizer, batch: Batch) -> None:
        """The adversarial loss of a side, with its terms of every step."""
        with self.dist.autocast():
            batch, loss = self.adversarial_loss(side, batch)
        losses = {side.name: loss} | {term.name: self.value(term, batch) for term in side.main}
        norm = self.optimizer_step(side, losses, clip_norm=side.clip_norm)
        if norm is not None:
            self.signals.add({f"gradient/{side.name}": norm})

    def lazy_steps(self, side: NetworkOptimizer, batch: Batch) -> None:
        for term in side.due_at(self.step):
            self.regularizer_step(side, term, batch)

    def regularizer_step(self, side: NetworkOptimizer, term: NamedRegularizer, batch: Batch) -> None:
        """A lazy term's own phase; it counts as often as it is skipped."""
        with ExitStack() as stack:
            if term.regularizer.second_order:
                stack.enter_context(second_order())
            self.optimizer_step(side, {term.name: self.value(term, batch)}, weight=term.every)

    def adversarial_loss(self, side: NetworkOptimizer, batch: Batch) -> tuple[Batch, Tensor]:
        """The batch with the logits that the side's loss looks at, and the loss."""
        if side.name == "generator":
            fake = self.networks.generator(batch.z, batch.c)
            logits = self.logits(fake, batch.c)
            return batch._replace(fake=fake, fake_logits=logits), self.gan.loss.generator(logits)
        real_logits, fake_logits = self.logits(batch.real, batch.c), self.logits(batch.fake, batch.c)
        self.meter.add({"logits/real": real_logits.mean(), "logits/fake": fake_logits.mean()})
        self.observe_overfitting(real_logits.detach())
        loss = self.gan.loss.discriminator(real_logits, fake_logits)
        return batch._replace(real_logits=real_logits, fake_logits=fake_logits), loss

    def observe_overfitting(self, real_logits: Tensor) -> None:
        """The mean sign of real images' logits, by which an augmentation may steer itself."""
        sign = real_logits.sign().mean()
        self.dist.all_reduce_mean([sign])
        self.signals.add({"sign/real": sign})
        if self.gan.augment is not None:
            self.gan.augment.observe(sign, int(self.spec.batch_size))

    def logits(self, images: Tensor | None, c: Tensor | None) -> Tensor:
        assert images is not None
        logits: Tensor = self.discriminator(self.augment(images), c)
        return logits.float()

    def value(self, term: NamedRegularizer, batch: Batch) -> Tensor:
        """A term's value; second derivatives are taken in full precision, by kernels that have them."""
        with ExitStack() as stack:
            if term.regularizer.second_order:
                stack.enter_context(second_order())
            stack.enter_context(self.dist.autocast(enabled=not term.regularizer.second_order))
            value: Tensor = term.regularizer(self.networks, batch)
        self.dist.all_reduce_mean([getattr(term.regularizer, name) for name in term.regularizer.synced_buffers])
        return value

    def optimizer_step(
        self, side: NetworkOptimizer, losses: Mapping[str, Tensor], weight: float = 1.0, clip_norm: float | None = None
    ) -> Tensor | None:
        """One step of a side's optimiser, or none where a gradient is not finite; gives back the gradient's norm."""
        self.meter.add(losses)
        total = torch.stack([loss.float() for loss in losses.values()]).sum() * weight
        scaler = self.dist.scaler
        torch.autograd.backward(total if scaler is None else scaler.scale(total))
        gradients = side.gradients()
        self.dist.all_reduce_mean(list(gradients.values()))
        if scaler is not None:
            scaler.unscale_(side.optimizer)
        norm = nn.utils.get_total_norm(gradients.values())
        finite = bool(norm.isfinite())
        if finite:
            if clip_norm is not None:
                nn.utils.clip_grads_with_norm_(side.parameters.values(), clip_norm, norm)
            side.optimizer.step()
            self.non_finite_in_a_row = 0
        else:
            self.note_non_finite(side, list(losses), gradients)
        if scaler is not None:
            scaler.update()
        side.optimizer.zero_grad(set_to_none=True)
        return norm if finite else None

    def note_non_finite(self, side: NetworkOptimizer, losses: list[str], gradients: Mapping[str, Tensor]) -> None:
        bad = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
        where = f"{', '.join(bad[:3])}{f' and {len(bad) - 3} more' if len(bad) > 3 else ''}" or "their total alone"
        phase = "+".join(losses)
        self.meter.non_finite[f"{side.name} ({phase}): {where}"] += 1
        self.non_finite_in_a_row += 1
        if self.non_finite_in_a_row >= PATIENCE:
            raise Diverged(
                f"the gradients were not finite {PATIENCE} times in a row, at step {self.step} ({self.images} images); "
                f"the last time in the {side.name}'s phase {phase}, in {where}. Training stops; the last checkpoint is "
                "from before. Try a lower learning rate, a larger gamma, or precision no"
            )

    def read_signals(self) -> dict[str, float]:
        """What tells how the training does beside its losses, and how strong the augmentation is now."""
        strength = {} if self.gan.augment is None else self.gan.augment.strength()
        return self.signals.read() | {f"augment/{name}": value.item() for name, value in strength.items()}

    def draw_z(self) -> Tensor:
        return torch.randn(self.batch_size, self.generator.z_dim, device=self.dist.device)


def augmentation(gan: GAN) -> nn.Module:
    """What images pass through before the discriminator sees them, in the generator's range."""
    if gan.augment is None:
        return nn.Identity()
    return gan.augment if gan.generator.value_range == "symmetric" else InRange(gan.augment, gan.generator.value_range)


class InRange(nn.Module):
    """An augmentation, which works in [-1,1], for images of another range."""

    def __init__(self, augment: Augment, value_range: str) -> None:
        super().__init__()
        self.augment = augment
        self.value_range = value_range
        self.spec = augment.spec  # regularizers ask which augmentation this is

    def forward(self, images: Tensor) -> Tensor:
        return from_symmetric(self.augment(to_symmetric(images, self.value_range)), self.value_range)


class Meter:
    """Means of what is measured between two ticks; nothing waits for the device until they are read."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.non_finite: dict[str, int] = defaultdict(int)

    def add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """The means since the last reading, always in the same order."""
        means = {name: (self.sums[name] / count).item() for name, count in self.counts.items() if count}
        self.sums, self.counts = {}, dict.fromkeys(self.counts, 0)
        return means

    def read_non_finite(self) -> dict[str, int]:
        """How often which gradients were not finite since the last reading."""
        found, self.non_finite = dict(self.non_finite), defaultdict(int)
        return found

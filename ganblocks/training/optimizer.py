"""One side of a GAN: a network, its optimiser, and the terms beside the loss that train it.

Lazy regularization, a term in every so many steps with a step of its own: StyleGAN2, Karras et al. 2020,
https://arxiv.org/abs/1912.04958, section 3.1 and appendix B.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from assemblies import Adam
from blocks.families import Regularizer

NetworkName = Literal["generator", "discriminator"]


class NamedRegularizer(NamedTuple):
    """A regularizer under the name that the log has for it."""

    name: str
    regularizer: Regularizer

    @property
    def every(self) -> int:
        return int(self.regularizer.spec.every)


def named_regularizers(regularizers: nn.ModuleList) -> list[NamedRegularizer]:
    """Regularizers by kind, numbered where a kind comes twice."""
    kinds = [str(regularizer.kind) for regularizer in regularizers]
    count = Counter(kinds)
    names = [kind if count[kind] == 1 else f"{kind}-{kinds[:i].count(kind) + 1}" for i, kind in enumerate(kinds)]
    return [NamedRegularizer(name, term) for name, term in zip(names, regularizers, strict=True)]  # type: ignore[arg-type]


class NetworkOptimizer:
    """A network that learns while the other one rests.

    Args:
        name: Which side.
        network: What learns; parameters that are frozen when it arrives stay frozen.
        adam: Its optimiser, before the correction for lazy terms.
        terms: Its regularizers.
        device: Where it is.
    """

    def __init__(
        self, name: NetworkName, network: nn.Module, adam: Adam, terms: list[NamedRegularizer], device: torch.device
    ) -> None:
        self.name: NetworkName = name
        self.network = network
        self.parameters = {key: value for key, value in network.named_parameters() if value.requires_grad}
        self.main = [term for term in terms if term.every == 1]
        self.lazy = [term for term in terms if term.every > 1]
        self.rate, betas = corrected(adam, [term.every for term in self.lazy])
        self.warmup_kimg, self.decay_kimg, self.clip_norm = adam.warmup_kimg, adam.decay_kimg, adam.clip_norm
        fused = device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.Adam(
            self.parameters.values(), lr=self.rate, betas=betas, eps=adam.eps, fused=fused
        )

    def due_at(self, step: int) -> list[NamedRegularizer]:
        """The lazy terms whose turn is at a step."""
        return [term for term in self.lazy if step % term.every == 0]

    def set_rate(self, kimg: float, kimg_left: float) -> None:
        """The learning rate of the step after which so many thousand images are shown, with so many to go before it."""
        rise = min(1.0, kimg / self.warmup_kimg) if self.warmup_kimg else 1.0
        fall = min(1.0, max(0.0, kimg_left) / self.decay_kimg) if self.decay_kimg else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * rise * fall

    @contextmanager
    def trainable(self) -> Iterator[None]:
        """While open, gradients reach this network's parameters; outside they never do."""
        self.set_trainable(True)
        try:
            yield
        finally:
            self.set_trainable(False)

    def set_trainable(self, trainable: bool) -> None:
        for parameter in self.parameters.values():
            parameter.requires_grad_(trainable)

    def gradients(self) -> dict[str, Tensor]:
        """The gradients at hand, laid out as their parameters: Adam's fused kernel walks both memories in one go."""
        found = {}
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            if parameter.grad.stride() != parameter.stride():
                parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)
            found[name] = parameter.grad
        return found

    def moments(self) -> Mapping[str, Tensor]:
        """Adam's state by parameter: `NAME.step`, `NAME.exp_avg`, `NAME.exp_avg_sq`."""
        states = ((name, self.optimizer.state.get(parameter, {})) for name, parameter in self.parameters.items())
        return {f"{name}.{key}": value for name, state in states for key, value in state.items()}

    def set_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Put back what `moments` gave."""
        for name, parameter in self.parameters.items():
            if f"{name}.step" not in moments:
                continue  # has never had a gradient
            step = moments[f"{name}.step"].clone()
            state = {
                key: torch.empty_like(parameter).copy_(moments[f"{name}.{key}"]) for key in ("exp_avg", "exp_avg_sq")
            }
            fused = self.optimizer.defaults["fused"]
            self.optimizer.state[parameter] = {"step": step.to(parameter.device) if fused else step, **state}


def corrected(adam: Adam, intervals: list[int]) -> tuple[float, tuple[float, float]]:
    """Trainable rate and betas for a network that takes 1 + sum(1/k) steps where it would take one: lr c, betas^c."""
    c = 1 / (1 + sum(1 / interval for interval in intervals))
    return adam.lr * c, (adam.betas[0] ** c, adam.betas[1] ** c)

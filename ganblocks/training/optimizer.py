"""One network of a GAN with its Adam and its regularizers.

Lazy regularization, a regularizer every k steps in an optimizer step of its own: StyleGAN2, Karras et al. 2020,
https://arxiv.org/abs/1912.04958, section 3.1 and appendix B.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from assemblies import Adam
from blocks.families import Regularizer, value_at
from ganblocks.training.step.adam import DeviceAdam
from registry import IncompatibleError, Problem, Spec
from registry.text import excerpt

NetworkName = Literal["generator", "discriminator"]
NO_SECOND_DERIVATIVE = re.compile(
    r"no (second )?derivative|differentiate twice|double backward|derivative for .* not implemented"
)


class NamedRegularizer(NamedTuple):
    """A regularizer and its name in the log."""

    name: str
    regularizer: Regularizer

    @property
    def every(self) -> int:
        return int(self.regularizer.spec.every)


def named_regularizers(regularizers: nn.ModuleList) -> list[NamedRegularizer]:
    """Regularizers named by kind, and numbered where a kind occurs more than once."""
    kinds = [str(regularizer.kind) for regularizer in regularizers]
    count = Counter(kinds)
    names = [kind if count[kind] == 1 else f"{kind}-{kinds[:i].count(kind) + 1}" for i, kind in enumerate(kinds)]
    return [NamedRegularizer(*pair) for pair in zip(names, regularizers, strict=True)]  # type: ignore[arg-type]


@contextmanager
def names_undeclared(regularizers: Iterable[NamedRegularizer]) -> Iterator[None]:
    """A context in which the error of a missing second derivative names the regularizers that do not declare it.

    Raises:
        IncompatibleError: A network was differentiated twice, and a regularizer does not declare `second_order`.
    """
    try:
        yield
    except RuntimeError as error:
        undeclared = [each.regularizer for each in regularizers if not each.regularizer.second_order]
        if not undeclared or not NO_SECOND_DERIVATIVE.search(str(error)):
            raise
        fact = f"differentiates a network's gradient without declaring it ({excerpt(error)})"
        problems = [Problem(each.slot_path, f"{each.kind} {fact}; set second_order = True") for each in undeclared]
        raise IncompatibleError(problems) from error


class NetworkOptimizer:
    """Optimizes one network; its parameters require gradients only inside `trainable`.

    Args:
        name: Which network.
        network: The network; parameters that do not require gradients are never trained.
        adam: Adam's options, before the correction for lazy regularizers.
        regularizers: The network's regularizers.
        capturable: Whether CUDA graphs capture its steps: learning rate, and betas that change, are tensors then.
    """

    def __init__(
        self,
        name: NetworkName,
        network: nn.Module,
        adam: Adam,
        regularizers: list[NamedRegularizer],
        *,
        capturable: bool = False,
    ) -> None:
        self.name: NetworkName = name
        self.network = network
        self.parameters = {key: value for key, value in network.named_parameters() if value.requires_grad}
        self.main = [each for each in regularizers if each.every == 1]
        self.lazy = [each for each in regularizers if each.every > 1]
        self.options, self.intervals = adam, [each.every for each in self.lazy]
        lr, betas = corrected(adam, self.intervals)
        self.warmup_kimg, self.clip_norm = adam.warmup_kimg, adam.clip_norm
        options: dict[str, Any] = {"betas": betas, "eps": adam.eps, "weight_decay": adam.weight_decay}
        self.sharded = {name for name, value in self.parameters.items() if hasattr(value, "to_local")}
        parts = (self.sharded, self.parameters.keys() - self.sharded)
        groups = [[value for name, value in self.parameters.items() if name in part] for part in parts]
        trained = [{"params": group} for group in groups if group]
        rate = torch.tensor(lr, device=next(iter(self.parameters.values())).device) if capturable else lr
        self.adam: torch.optim.Optimizer
        if isinstance(rate, Tensor) and any(isinstance(beta, Spec) for beta in adam.betas):
            self.adam = DeviceAdam(trained, lr=rate, **options)
        else:  # or Adam: no decay
            self.adam = torch.optim.AdamW(trained, lr=rate, fused=True, capturable=capturable, **options)

    def due_at(self, step: int) -> list[NamedRegularizer]:
        """The lazy regularizers that run in a step."""
        return [each for each in self.lazy if step % each.every == 0]

    def set_rates(self, kimg: float, kimg_left: float, images: int = 0) -> None:
        """Set learning rate and betas of a step: schedules, warm-up, and decay at the end of the training.

        Args:
            kimg: Thousands of images at the end of the step.
            kimg_left: Thousands of images from the start of the step to the end of training.
            images: Images at the start of the step, which schedules depend on.
        """
        lr, betas = corrected(self.options, self.intervals, images)
        warmup = min(1.0, kimg / self.warmup_kimg) if self.warmup_kimg else 1.0
        decay_kimg = max(self.options.decay_kimg, self.options.decay_fraction * (images / 1000 + kimg_left))
        decay = min(1.0, max(0.0, kimg_left) / decay_kimg) if decay_kimg > 0 else 1.0
        for group in self.adam.param_groups:
            group["lr"] = changed(group["lr"], lr * warmup * decay)
            group["betas"] = tuple(map(changed, group["betas"], betas))

    @property
    def rate(self) -> float:
        """The learning rate of the last step, schedules and corrections included."""
        return float(self.adam.param_groups[0]["lr"])

    @contextmanager
    def trainable(self) -> Iterator[None]:
        """A context in which the network's parameters require gradients."""
        self.set_trainable(True)
        try:
            yield
        finally:
            self.set_trainable(False)

    def set_trainable(self, trainable: bool) -> None:
        for parameter in self.parameters.values():
            parameter.requires_grad_(trainable)

    def gradients(self) -> dict[str, Tensor]:
        """Gradients by parameter, with the parameters' strides: Adam's fused kernel reads both memories in order.

        Of a sharded parameter it is the part of this process.
        """
        gradients = {}
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            if parameter.grad.stride() != parameter.stride():
                parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)
            gradient: Any = parameter.grad
            gradients[name] = gradient.to_local() if name in self.sharded else gradient
        return gradients

    def step(self, finite: Tensor) -> None:
        """Take an Adam step with the gradients, or none if `finite` is false, without waiting for the device."""
        # the switch of fused optimizers that `torch.amp.GradScaler` uses
        self.adam.found_inf = (~finite).float()  # type: ignore[attr-defined]
        self.adam.step()

    def moments(self) -> Mapping[str, Tensor]:
        """Adam's state by parameter: `NAME.step`, `NAME.exp_avg`, `NAME.exp_avg_sq`."""
        states = ((name, self.adam.state.get(parameter, {})) for name, parameter in self.parameters.items())
        return {f"{name}.{key}": value for name, state in states for key, value in state.items()}

    def set_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Restore what `moments` returned."""
        for name, parameter in self.parameters.items():
            if f"{name}.step" not in moments:
                continue  # has never had a gradient
            step = moments[f"{name}.step"].clone()
            state = {
                key: torch.empty_like(parameter).copy_(moments[f"{name}.{key}"]) for key in ("exp_avg", "exp_avg_sq")
            }
            self.adam.state[parameter] = {"step": step.to(parameter.device), **state}


def changed(value: float | Tensor, new: float) -> float | Tensor:
    """The new value, in the same tensor if the old one is a tensor."""
    return value.fill_(new) if isinstance(value, Tensor) else new


def corrected(adam: Adam, intervals: list[int], images: int = 0) -> tuple[float, tuple[float, float]]:
    """Learning rate and betas of a network that takes 1 + sum(1/k) optimizer steps per training step: lr c, betas^c.

    Those of schedules are taken after `images` images.
    """
    c = 1 / (1 + sum(1 / interval for interval in intervals))
    first, second = (value_at(beta, images) ** c for beta in adam.betas)
    return value_at(adam.lr, images) * adam.width_factor * c, (first, second)

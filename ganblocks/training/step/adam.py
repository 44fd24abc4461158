"""Adam whose betas change from step to step inside a CUDA graph.

Adam, Kingma and Ba 2014, https://arxiv.org/abs/1412.6980, algorithm 1; decoupled weight decay: Loshchilov and Hutter
2017, https://arxiv.org/abs/1711.05101. PyTorch's fused and foreach kernels take betas as numbers of the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class DeviceAdam(torch.optim.Optimizer):
    """AdamW whose learning rate and betas are tensors on the device of the parameters, 0-dimensional.

    `found_inf` is a tensor, as in PyTorch's fused optimizers: where it is not 0, a step changes nothing.

    Args:
        params: Parameters, or groups of them, of one device.
        lr: The learning rate, a tensor.
        betas: Initial betas; they become tensors.
        eps: Added to the denominator.
        weight_decay: Decoupled weight decay.
    """

    found_inf: Tensor

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: Tensor,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        on_device = tuple(torch.tensor(beta, device=lr.device, dtype=torch.float64) for beta in betas)
        super().__init__(params, {"lr": lr, "betas": on_device, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            params = [each for each in group["params"] if each.grad is not None]
            if not params:
                continue
            for each in params:
                if not self.state[each]:
                    self.state[each]["step"] = torch.zeros((), device=each.device)
                    self.state[each] |= {name: torch.zeros_like(each) for name in ("exp_avg", "exp_avg_sq")}
            steps, means, squares = (
                [self.state[each][name] for each in params] for name in ("step", "exp_avg", "exp_avg_sq")
            )
            skips = self.found_inf != 0
            first, second = (torch.where(skips, 1, beta) for beta in group["betas"])  # 1 keeps a moment as it is
            lr = torch.where(skips, 0, group["lr"])
            gradients = [torch.where(skips, 0, each.grad) for each in params]
            torch._foreach_add_(steps, (~skips).float(), alpha=1)  # without alpha it reads the number from the device
            torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
            torch._foreach_mul_(means, first.float())
            torch._foreach_add_(means, torch._foreach_mul(gradients, (1 - first).float()))
            torch._foreach_mul_(squares, second.float())
            torch._foreach_addcmul_(squares, torch._foreach_mul(gradients, (1 - second).float()), gradients)
            counts = torch.stack(steps).double().clamp(min=1)
            first, second = (1 - beta**counts for beta in group["betas"])
            denominators = torch._foreach_sqrt(squares)
            torch._foreach_div_(denominators, list(second.sqrt().float()))
            torch._foreach_add_(denominators, group["eps"])
            torch._foreach_div_(denominators, list((lr / first).float()))
            torch._foreach_addcdiv_(params, means, denominators, value=-1)

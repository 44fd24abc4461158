"""Weights stored in 16 bits where a network uses them in 16 bits only, which autocast would cast at each call.

Mixed precision: Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from assemblies.inference.precision import DTYPES, Precision, computing_in
from blocks.common.weight_cache import Results, frozen_weights


def cast_weights(network: nn.Module, inputs: Tensor, precision: Precision) -> tuple[str, ...]:
    """Store parameters and buffers in 16 bits that a network uses in 16 bits only; returns their names.

    A pass under autocast shows which these are. What blocks compute in float32, such as styles, colours and statistics
    of norms, stays as it is.
    """
    dtype = DTYPES.get(precision)
    if dtype is None:
        return ()
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    uses = Uses(list(tensors.values()), dtype)
    with frozen_weights(Results()), computing_in(precision, inputs.device), torch.random.fork_rng(), uses:
        network(inputs)
    names = tuple(name for name, each in tensors.items() if id(each) in uses.cast - uses.others)
    for name in names:
        path, _, leaf = name.rpartition(".")
        module, value = network.get_submodule(path), tensors[name].to(dtype)
        if isinstance(tensors[name], nn.Parameter):
            setattr(module, leaf, nn.Parameter(value, requires_grad=False))
        else:
            module.register_buffer(leaf, value, persistent=leaf not in module._non_persistent_buffers_set)
    return names


class Uses(TorchDispatchMode):
    """Records which tensors are cast to a dtype and which are used in other ways."""

    def __init__(self, tensors: list[Tensor], dtype: torch.dtype) -> None:
        super().__init__()
        self.tensors, self.dtype = {id(each) for each in tensors}, dtype
        self.cast: set[int] = set()
        self.others: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        is_cast = func is torch.ops.aten._to_copy.default and kwargs.get("dtype") == self.dtype
        used = {id(each) for each in tree_leaves((args, kwargs))} & self.tensors
        (self.cast if is_cast else self.others).update(used)
        return func(*args, **kwargs)

"""The condition of a generator, from its spec: its type, and its number of features."""

from __future__ import annotations

import torch

from assemblies.trace import build_on_meta
from blocks.condition.class_labels import ClassLabels
from blocks.families.networks import ConditionInput
from registry import Spec, incompatible


def cond_dim_of(spec: Spec) -> int:
    """Features of the condition of the generator that `spec` describes; 0 for none."""
    return condition_size(spec)[0]


def condition_input(spec: Spec) -> ConditionInput | None:
    """The type of condition that the generator takes; None for an unconditional one."""
    if (condition := getattr(spec, "condition", None)) is None:
        return "classes" if getattr(spec, "cond_dim", 0) else None
    kind: ConditionInput = condition.block.condition_input
    return kind


def condition_spec(spec: Spec) -> Spec | None:
    """The spec of the generator's condition, `class-labels` for one with `cond_dim` alone; None for no condition."""
    if (condition := getattr(spec, "condition", None)) is not None:
        return condition
    cond_dim = getattr(spec, "cond_dim", 0)
    return ClassLabels.Spec(num_classes=cond_dim) if cond_dim else None


def num_tokens_of(spec: Spec) -> int:
    """Number of tokens in the condition of the generator that `spec` describes; 0 for none."""
    return condition_size(spec)[2]


def condition_size(spec: Spec) -> tuple[int, int, int]:
    """Features of the condition c, parameters of the block that makes it, and its tokens; nothing is allocated."""
    cond_dim: int = getattr(spec, "cond_dim", 0)
    if (condition := getattr(spec, "condition", None)) is None:
        return cond_dim, 0, 0
    key = condition.model_dump_json()
    if key not in _sizes:
        with torch.device("meta"):
            block = build_on_meta(("condition",), condition, {})
        _sizes[key] = block.cond_dim, sum(parameter.numel() for parameter in block.parameters()), block.num_tokens
    features, parameters, num_tokens = _sizes[key]
    return resolve_cond_dim(cond_dim, condition.kind, features), parameters, num_tokens


_sizes: dict[str, tuple[int, int, int]] = {}  # a text tower takes seconds to build, even on the meta device


def resolve_cond_dim(cond_dim: int, kind: str, features: int) -> int:
    """Features of a condition, if `cond_dim` is 0 or the same number.

    Raises:
        IncompatibleError: It is another number.
    """
    if cond_dim not in (0, features):
        raise incompatible(
            "cond_dim", f"is {cond_dim}, but the condition {kind} has {features} features; omit cond_dim"
        )
    return features

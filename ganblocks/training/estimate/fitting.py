"""Changes by which a training fits a GPU: smaller passes, activation checkpointing, 16 bits, sharded networks.

Activation checkpointing: Chen et al. 2016, https://arxiv.org/abs/1604.06174.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from assemblies.training_options import Checkpoint
from ganblocks.precision import Precision
from registry import Spec

SLACK = 1.25  # how far activations are from proportional to the images of a pass


class Change(NamedTuple):
    """A change with which a training fits.

    Args:
        options: Options of `train`, by their names in Python.
        settings: Values of the document, each `path=value`.
        num_bytes: Memory of a process then.
    """

    options: dict[str, str | int]
    settings: tuple[str, ...]
    num_bytes: int

    def __str__(self) -> str:
        parts = [f"--set {each}" for each in self.settings]
        parts += [f"--{name.replace('_', '-')} {value}" for name, value in self.options.items()]
        return f"{' '.join(parts)}: {self.num_bytes / 1e9:.3g} GB"


def changes_that_fit(
    spec: Spec,
    precision: Precision,
    images: int,
    room: float,
    fixed: Mapping[str, int],
    activations: Callable[[Spec, Precision, int], int],
) -> tuple[Change, ...]:
    """Changes with which a training fits, each with the largest pass that fits; none if there is none.

    The first costs no arithmetic, checkpointing about a third more of it, and the others change precision or
    communication.

    Args:
        spec: A `GAN.Spec` that does not fit.
        precision: Of the forward passes.
        images: Images of a pass.
        room: Bytes that there are.
        fixed: Bytes that do not depend on the images: `now`, in `bf16`, and with `fsdp` if that is a choice.
        activations: Bytes of activations with a document, a precision and passes of so many images.
    """
    changes: list[Change] = []

    def consider(
        options: dict[str, str | int], changed_precision: Precision, bytes_fixed: int, settings: tuple[str, ...] = ()
    ) -> None:
        document = spec.to_dict() | ({"checkpoint": checkpoint} if settings else {})
        changed, limit = type(spec).model_validate(document), float(images)
        for size in (size for size in range(images, 0, -1) if images % size == 0):
            if size > limit:
                continue
            needed = activations(changed, changed_precision, size)
            if bytes_fixed + needed <= room:
                passes: dict[str, str | int] = {"micro_batch": size} if size < images else {}
                changes.append(Change(options | passes, settings, bytes_fixed + needed))
                return
            limit = SLACK * size * (room - bytes_fixed) / needed  # larger passes do not fit either

    consider({}, precision, fixed["now"])
    if lists := _not_checkpointed(spec):
        checkpoint = spec.checkpoint.model_dump() | dict.fromkeys(lists, True)
        path = "checkpoint" if len(lists) == 2 else f"checkpoint.{lists[0]}"
        consider({}, precision, fixed["now"], (f"{path}=true",))
    if precision in ("fp32", "tf32"):
        consider({"precision": "bf16"}, "bf16", fixed["bf16"])
    if "fsdp" in fixed:
        consider({"strategy": "fsdp"}, precision, fixed["fsdp"])
    return tuple(changes)


def _not_checkpointed(spec: Spec) -> list[str]:
    """Networks whose activations could be computed again, and are not."""
    names = [name for name, checkpointed in spec.checkpoint if not checkpointed]
    return [name for name in names if not Checkpoint(**{name: True}).problems_with(spec.generator, spec.discriminator)]

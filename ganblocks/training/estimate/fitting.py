"""Changes by which a training fits a GPU: smaller passes, activation checkpointing, 16 bits, sharded networks.

Activation checkpointing: Chen et al. 2016, https://arxiv.org/abs/1604.06174.
"""

from __future__ import annotations

from collections.abc import Callable

from assemblies.training_options import Checkpoint
from ganblocks.precision import Precision
from registry import Spec

SLACK = 1.25  # how far activations are from proportional to the images of a pass


def changes_that_fit(
    spec: Spec,
    precision: Precision,
    images: int,
    room: float,
    fixed: int,
    sharded: int | None,
    activations: Callable[[Spec, Precision, int], int],
) -> tuple[str, ...]:
    """Options with which a training fits, with its memory; each is combined with the largest pass that fits.

    The first costs no arithmetic, checkpointing about a third more of it, and the others change precision or
    communication.

    Args:
        spec: A `GAN.Spec` that does not fit.
        precision: Of the forward passes.
        images: Images of a pass.
        room: Bytes that there are.
        fixed: Bytes that do not depend on the images.
        sharded: The same where networks are sharded; None if they are, or cannot be.
        activations: Bytes of activations with a document, a precision and passes of so many images.
    """
    changes = []

    def consider(option: str, changed: Spec, changed_precision: Precision, bytes_fixed: int) -> None:
        limit = float(images)
        for size in (size for size in range(images, 0, -1) if images % size == 0):
            if size > limit:
                continue
            needed = activations(changed, changed_precision, size)
            if bytes_fixed + needed <= room:
                passes = f"--micro-batch {size}" if size < images else ""
                changes.append(f"{' '.join(filter(None, (option, passes)))}: {(bytes_fixed + needed) / 1e9:.3g} GB")
                return
            limit = SLACK * size * (room - bytes_fixed) / needed  # larger passes do not fit either

    consider("", spec, precision, fixed)
    if lists := _not_checkpointed(spec):
        document = spec.to_dict() | {"checkpoint": spec.checkpoint.model_dump() | dict.fromkeys(lists, True)}
        option = "checkpoint" if len(lists) == 2 else f"checkpoint.{lists[0]}"
        consider(f"--set {option}=true", type(spec).model_validate(document), precision, fixed)
    if precision in ("fp32", "tf32"):
        consider("--precision bf16", spec, "bf16", fixed)
    if sharded is not None and sharded < fixed:
        consider("--strategy fsdp", spec, precision, sharded)
    return tuple(changes) or ("a pass of one image does not fit with any option; take a GPU with more memory",)


def _not_checkpointed(spec: Spec) -> list[str]:
    """Networks whose activations could be computed again, and are not."""
    names = [name for name, checkpointed in spec.checkpoint if not checkpointed]
    return [name for name in names if not Checkpoint(**{name: True}).problems_with(spec.generator, spec.discriminator)]

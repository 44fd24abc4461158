"""Networks from documents: read, check, build."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from assemblies import check, parse, read
from registry import Spec, SpecError


def build(spec: Spec | Mapping[str, Any] | str | Path, **context: Any) -> nn.Module:
    """Build the network or GAN of a spec, with random weights, in training mode.

    Args:
        spec: A spec, the same as plain data, a file, or a preset's name.
        context: For a single discriminator: resolution (height, width), image_channels, cond_dim.

    Raises:
        SpecError: The spec is not valid or does not fit together; all problems are listed.
    """
    document = read(spec) if isinstance(spec, str | Path) else parse(spec)
    try:
        check(document, **{name: value for name, value in context.items() if name != "cond_dim"})
    except SpecError as error:
        raise error.about(str(spec) if isinstance(spec, str | Path) else "The spec") from None
    network: nn.Module = document.build(**context)
    return network

"""Styleformer's pickles, which are of StyleGAN2-ADA's kind; its discriminator is StyleGAN2-ADA's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from assemblies.conversion.importer import Conversion, Importer, Names, require
from assemblies.models.styleformer import architecture as styleformer
from assemblies.models.stylegan2.checkpoint import OPTIONS, WHY


def is_generator(names: Names) -> bool:
    return "mapping.fc0.weight" in names and any(name.endswith("_0.enc.affine1.weight") for name in names)


def generator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    for name in ("z_dim", "w_dim", "img_resolution", "img_channels", "synthesis_kwargs"):
        require(args, name, WHY)
    return Conversion(
        styleformer.generator_spec(args),
        styleformer.generator_rules(args),
        tensors,
        styleformer.generator_ignored,
        ("the reference draws noise anew for every image; here it is the constant that the file holds",),
    )


GENERATOR = Importer("styleformer generator", is_generator, generator, OPTIONS)

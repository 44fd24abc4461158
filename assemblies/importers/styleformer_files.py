"""Styleformer's pickles, which are of StyleGAN2-ADA's kind; its discriminator is StyleGAN2-ADA's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from assemblies.importers import styleformer
from assemblies.importers.importer import Importer, Names, Recipe, require
from assemblies.importers.stylegan2_files import OPTIONS, WHY


def is_generator(names: Names) -> bool:
    return "mapping.fc0.weight" in names and any(name.endswith("_0.enc.affine1.weight") for name in names)


def generator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Recipe:
    for name in ("z_dim", "w_dim", "img_resolution", "img_channels", "synthesis_kwargs"):
        require(args, name, WHY)
    return Recipe(
        styleformer.generator_spec(args),
        styleformer.generator_moves(args),
        tensors,
        styleformer.generator_ignored,
        ("the reference draws noise anew for every image; here it is the constant that the file holds",),
    )


GENERATOR = Importer("styleformer generator", is_generator, generator, OPTIONS)

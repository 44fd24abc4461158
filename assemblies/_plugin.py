"""Registers generators, discriminators, GAN documents, presets and importers of published checkpoints."""

from __future__ import annotations

from assemblies.discriminator import LayeredDiscriminator
from assemblies.discriminators.multi_scale import MultiScaleDiscriminator
from assemblies.discriminators.projected import ProjectedDiscriminator
from assemblies.gan import GAN
from assemblies.generator import LayeredGenerator
from assemblies.models import importers, presets
from assemblies.multi_stage import MultiStage
from registry import Register, RegisterImporter, RegisterPreset, hookimpl


@hookimpl
def register_blocks(register: Register) -> None:
    discriminators = (LayeredDiscriminator, MultiScaleDiscriminator, ProjectedDiscriminator)
    for block in (GAN, LayeredGenerator, *discriminators, MultiStage):
        register(block)


@hookimpl
def register_presets(register: RegisterPreset) -> None:
    """The presets of `assemblies/models/*/presets.py`."""
    for name, document in presets().items():
        register(name, document)


@hookimpl
def register_importers(register: RegisterImporter) -> None:
    """The importers of `assemblies/models/*/checkpoint.py`."""
    for importer in importers():
        register(importer)

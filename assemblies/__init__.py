"""Declares whole models: specs that compose blocks, their files, and presets."""

from assemblies.checkpoint import CheckpointError, load_discriminator, load_model, save_model
from assemblies.discriminator import Discriminator, LayeredDiscriminator
from assemblies.documents import parse, plugins_of, read, schema
from assemblies.gan import EMA, GAN, Adam, check
from assemblies.generator import Generator, LayeredGenerator
from assemblies.projected import ProjectedDiscriminator
from assemblies.survey import Step, Survey

__all__ = [
    "EMA",
    "GAN",
    "Adam",
    "CheckpointError",
    "Discriminator",
    "Generator",
    "LayeredDiscriminator",
    "LayeredGenerator",
    "ProjectedDiscriminator",
    "Step",
    "Survey",
    "check",
    "load_discriminator",
    "load_model",
    "parse",
    "plugins_of",
    "read",
    "save_model",
    "schema",
]

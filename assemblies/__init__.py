"""Declares whole models: specs that compose blocks, their files, and presets."""

from assemblies.discriminator import Discriminator, LayeredDiscriminator
from assemblies.documents import parse, plugins_of, read, schema
from assemblies.gan import EMA, GAN, Adam, check
from assemblies.generator import Generator, LayeredGenerator
from assemblies.model_file import CheckpointError, load_discriminator, load_model, save_model
from assemblies.projected import ProjectedDiscriminator
from assemblies.trace import Step, Trace

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
    "Trace",
    "check",
    "load_discriminator",
    "load_model",
    "parse",
    "plugins_of",
    "read",
    "save_model",
    "schema",
]

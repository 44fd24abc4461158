"""Whole models: documents that compose blocks, model files, presets, and conversion of other checkpoints."""

from assemblies.discriminator import Discriminator, LayeredDiscriminator
from assemblies.discriminators.multi_scale import MultiScaleDiscriminator
from assemblies.discriminators.projected import ProjectedDiscriminator
from assemblies.documents import document_schema, parse, plugins_of, read
from assemblies.gan import GAN, check
from assemblies.generator import Generator, LayeredGenerator
from assemblies.model_file import CheckpointError, load_discriminator, load_model, save_model
from assemblies.trace import Step, Trace
from assemblies.training_options import EMA, Adam

__all__ = [
    "EMA",
    "GAN",
    "Adam",
    "CheckpointError",
    "Discriminator",
    "Generator",
    "LayeredDiscriminator",
    "LayeredGenerator",
    "MultiScaleDiscriminator",
    "ProjectedDiscriminator",
    "Step",
    "Trace",
    "check",
    "document_schema",
    "load_discriminator",
    "load_model",
    "parse",
    "plugins_of",
    "read",
    "save_model",
]

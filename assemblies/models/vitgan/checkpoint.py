"""The importers of both forms of ViTGAN file."""

from __future__ import annotations

from assemblies.models.vitgan.official import checkpoint as official
from assemblies.models.vitgan.reimplementation import checkpoint as reimplementation

IMPORTERS = (*official.IMPORTERS, *reimplementation.IMPORTERS)

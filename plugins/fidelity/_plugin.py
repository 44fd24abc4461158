"""Registers the networks and metrics of torch-fidelity."""

from __future__ import annotations

from plugins.fidelity.metrics import KID, InceptionScore, PrecisionRecall
from plugins.fidelity.networks import Inception, LPIPSFeatures, VGG16Features
from registry import Register, hookimpl


@hookimpl
def register_blocks(register: Register) -> None:
    for block in (Inception, LPIPSFeatures, VGG16Features, KID, InceptionScore, PrecisionRecall):
        register(block)

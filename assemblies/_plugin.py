"""What this package registers: topologies of generators and discriminators, and the GAN document."""

from __future__ import annotations

from assemblies.discriminator import LayeredDiscriminator
from assemblies.gan import GAN
from assemblies.generator import LayeredGenerator
from registry import Register, hookimpl


@hookimpl
def register_blocks(register: Register) -> None:
    for block in (GAN, LayeredDiscriminator, LayeredGenerator):
        register(block)

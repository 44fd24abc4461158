"""Registers the blocks of this package; pyproject.toml announces this module as an entry point of ganblocks."""

from registry import Register, hookimpl
from spiral_attention.attention import SpiralAttention


@hookimpl
def register_blocks(register: Register) -> None:
    register(SpiralAttention)

"""What this package gives to ganblocks; its pyproject.toml announces this module as an entry point."""

from registry import Register, hookimpl
from spiral_attention.attention import SpiralAttention


@hookimpl
def register_blocks(register: Register) -> None:
    register(SpiralAttention)

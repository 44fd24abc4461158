"""The conformance suite: what every block must keep, tried on anybody's block. It needs torch, and nothing imports it.

A plugin's own test file is three lines:

    @pytest.mark.parametrize("check", checks(SpiralAttention), ids=str)
    def test_spiral_attention_conforms(check):
        check()

Blocks are tried with their defaults and with the `examples` of their class, in the places that their family's `Driver`
describes. A family of your own comes with a driver of its own: `checks(MyBlock, driver=Driver(...))`.
"""

from registry.testing.checks import Check, checks
from registry.testing.harness import HARNESSES, Harness

__all__ = ["HARNESSES", "Check", "Harness", "checks"]

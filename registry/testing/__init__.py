"""The conformance suite: checks that every block must pass. It needs torch; nothing else in `registry` imports it.

The test file of a plugin is three lines:

    @pytest.mark.parametrize("check", checks(SpiralAttention), ids=str)
    def test_spiral_attention_conforms(check):
        check()

A block is tried with its defaults and with the `examples` of its class, in every context of its family's `Harness`.
A package that declares families lists their harnesses in its module `testing`, as `blocks.testing` does:

    HARNESSES = {"attention": Harness(inputs=..., shapes=..., contexts=...)}

A harness can also be passed: `checks(MyBlock, harness=Harness(...))`. `check("cuda")` runs a check on another device.
"""

from registry.testing.checks import Check, checks
from registry.testing.harness import Harness

__all__ = ["Check", "Harness", "checks"]

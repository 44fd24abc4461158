"""The conformance suite: checks that every block and every kernel must pass. It needs torch.

Nothing else in `registry` imports it.

    @pytest.mark.parametrize("check", [*checks(SpiralAttention), *kernel_checks(SpiralKernel())], ids=str)
    def test_spiral_attention_conforms(check):
        check()

`ganblocks.testing` collects the checks of a whole plugin. `check("cuda")` runs a check on another device.

A block is tried with its defaults and with the `examples` of its class, in every context of its family's `Harness`. A
kernel is compared with its op's reference kernel in all `Call`s of the op that it supports. A package that declares
families or ops lists harnesses and calls in its module `testing`, as `blocks.testing` does:

    HARNESSES = {"attention": Harness(inputs=..., shapes=..., contexts=...)}
    CALLS = {"attention": function that returns a list of calls}

A harness can also be passed: `checks(MyBlock, harness=Harness(...))`.
"""

from registry.testing.calls import Call
from registry.testing.checks import Check, checks
from registry.testing.harness import Harness
from registry.testing.kernel_checks import KernelCheck, kernel_checks

__all__ = ["Call", "Check", "Harness", "KernelCheck", "checks", "kernel_checks"]

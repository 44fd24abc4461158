"""Triton kernels compiled for a GPU on machines without one, and the registers and memory that they use."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any


def resource_usage(
    function: Any,
    kinds: dict[str, str],
    constants: dict[str, object],
    capability: int,
    folder: Path,
    multiples_of_16: tuple[str, ...] = (),
    *,
    warps: int = 4,
    stages: int = 3,
) -> dict[str, int]:
    """Registers per thread (REG), and bytes of stack (STACK) and shared memory (SHARED).

    Args:
        function: The kernel.
        kinds: Types of its arguments that are no constants, such as *fp16 or i32.
        constants: Values of its other arguments.
        capability: The generation of GPUs, such as 90.
        folder: Where a file is written.
        multiples_of_16: Sizes for which the kernel is specialised.
        warps: Warps of a program.
        stages: Stages of pipelined loads.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {name: kinds.get(name, "constexpr") for name in function.arg_names}
    # as at run time for pointers, and for sizes that are multiples of 16
    aligned = [name for name, kind in kinds.items() if kind.startswith("*") or name in multiples_of_16]
    attributes = {(function.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(function, signature, constants, attributes)
    options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(compiled.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    report = subprocess.run([tool, "--dump-resource-usage", cubin], capture_output=True, text=True, check=True).stdout
    usage = {name: int(value) for name, value in re.findall(r"(REG|STACK):(\d+)", report)}
    return usage | {"SHARED": compiled.metadata.shared}

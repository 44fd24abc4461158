"""Blocks of StyleGAN-T and StyleNAT, run eagerly on a CPU, import nothing that only torch.compile needs."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys, torch
from blocks import LinearHead, ModulatedConv, Residual, ResidualConv, Transformer
from registry import second_order
attention = {"kind": "hydra-na", "num_heads": 4, "kernel_sizes": (3, 3), "dilations": (1, 2)}
styled = [
    ModulatedConv(32, (8, 8), 6, up=2),
    Residual(32, (16, 16), 6),
    Transformer(32, (16, 16), 6, attention=attention, norm="adain"),
]
discriminator = [ResidualConv(32, (16, 16), dim=32), LinearHead(32, (8, 8))]
def run(x):
    for layer in styled:
        x = layer(x, torch.randn(2, layer.num_styles, 6))
    for layer in discriminator:
        x = layer(x)
    return x
x = torch.randn(2, 32, 8, 8, requires_grad=True)
run(x).sum().backward()
with second_order():
    (gradient,) = torch.autograd.grad(run(x).sum(), x, create_graph=True)
gradient.square().sum().backward()
with torch.no_grad():
    run(x)
print(*({"torch._dynamo", "torch._inductor", "sympy", "triton"} & set(sys.modules)))
"""


def test_eager_passes_of_blocks_import_neither_dynamo_nor_sympy_nor_triton():
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout.strip()) == (0, ""), run.stdout + run.stderr

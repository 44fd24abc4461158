"""Importing what builds on torchvision, also where torchvision's compiled operations do not fit the installed torch.

torchvision, https://github.com/pytorch/vision. PyPI has its build for CUDA only. Beside a CPU build of torch its
library of operations cannot be loaded; torchvision then goes on without, but describes two operations that nobody
declared, and `import torchvision` ends with `RuntimeError: operator torchvision::nms does not exist`. timm and
open_clip import it for its transforms alone, which are Python.
"""

from __future__ import annotations

import re
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

UNDECLARED = re.compile(r"operator torchvision::(\w+) does not exist")
SUPPRESSION = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"  # the schema of nms and qnms
_declared: list[torch.library.Library] = []  # declarations last as long as their library


def import_beside_torchvision(name: str) -> ModuleType:
    """`import_module(name)` for a library that imports torchvision.

    Where torchvision stops at an operation that was not declared, the operation is declared, without a way to compute
    it, and the import tried again. What calls the operation is told by torchvision that its build does not fit.

    Args:
        name: The module, such as "timm" or "open_clip".

    Raises:
        ImportError: The library is not there, or fails for another reason.
    """
    while True:
        try:
            return import_module(name)
        except RuntimeError as error:
            missing = UNDECLARED.search(str(error))
            if missing is None or hasattr(torch.ops.torchvision, missing[1]):
                raise ImportError(f"{name} cannot be imported: {error}", name=name) from error
            library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            library.define(missing[1] + SUPPRESSION)
            _declared.append(library)

"""Imports libraries that need torchvision, also where torchvision's compiled operators do not fit the installed torch.

torchvision, https://github.com/pytorch/vision. PyPI has its build for CUDA only, whose library of operators cannot be
loaded beside a CPU build of torch. torchvision continues without it, but registers fake implementations of two
operators that are not defined then, and `import torchvision` fails: `RuntimeError: operator torchvision::nms does not
exist`. timm and open_clip import it for its transforms only, which are written in Python.
"""

from __future__ import annotations

import re
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

UNDECLARED = re.compile(r"operator torchvision::(\w+) does not exist")
SUPPRESSION = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"  # the schema of nms and qnms
_defined: list[torch.library.Library] = []  # an operator exists as long as its library object


def import_beside_torchvision(name: str) -> ModuleType:
    """`import_module(name)` for a library that imports torchvision.

    Where torchvision fails at an undefined operator, the operator is defined without an implementation and the import
    is tried again. A call of the operator raises torchvision's error about an incompatible build.

    Args:
        name: The module, such as "timm" or "open_clip".

    Raises:
        ImportError: The library is not installed, or its import fails for another reason.
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
            _defined.append(library)

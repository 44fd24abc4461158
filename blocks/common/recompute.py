"""Recognises the recomputation of a forward pass under activation checkpointing.

Chen et al. 2016, https://arxiv.org/abs/1604.06174; `torch.utils.checkpoint`.
"""

from __future__ import annotations

import torch


def is_recomputing() -> bool:
    """Whether this forward pass runs inside a backward pass, so that it must not update buffers a second time."""
    running: int = -1 if torch.compiler.is_compiling() else torch._C._current_graph_task_id()
    return running != -1

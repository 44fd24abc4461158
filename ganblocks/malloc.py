"""Keeps large temporaries instead of giving them back to the system after each use.

glibc maps every block above a threshold anew and unmaps it when it is freed, so that each large temporary of a forward
pass pays for its pages again; on virtual machines that can cost a quarter of the time.
"""

from __future__ import annotations

import ctypes
import os
import sys

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # glibc's malloc.h
THEIRS = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


def tune_malloc() -> bool:
    """Has this process's allocator keep what is freed, as MALLOC_MMAP_MAX_=0 and MALLOC_TRIM_THRESHOLD_ would.

    Does nothing where the environment says how memory is allocated, or where the allocator is not glibc's. The process
    then holds on to its peak, which is up to a fifth higher.

    Returns:
        Whether it was done.
    """
    if sys.platform != "linux" or any(name.startswith(THEIRS) for name in os.environ):
        return False
    try:
        libc = ctypes.CDLL(None)
        if not hasattr(libc, "gnu_get_libc_version"):
            return False
        return bool(libc.mallopt(MMAP_MAX, 0) and libc.mallopt(TRIM_THRESHOLD, -1))
    except OSError:
        return False

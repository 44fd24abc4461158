"""How OpenMP's threads wait for each other, set before torch starts them.

The threads of an operation wait for the last one, by default in a loop of about 10 ms (GNU's libgomp). If another
process runs on a core of theirs, they take away the time that it needs to end: on two cores beside one other process,
two threads trained at a third of the speed of one.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

USER_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
SAMPLES, PAUSE = 5, 0.004  # seconds between two samples of the running threads
message: str | None = None
"""What was found on a busy machine, for logs; None on a quiet one."""


def tune_waiting() -> None:
    """Let threads sleep while they wait, where other processes leave no core for each thread.

    Does nothing on a quiet machine, where threads that spin are faster, nor if the environment says how to wait or has
    one thread, nor outside of Linux.
    """
    global message
    alone = os.environ.get("OMP_NUM_THREADS") == "1"
    if sys.platform != "linux" or alone or any(name in os.environ for name in USER_SETTINGS):
        return
    cores, others = len(os.sched_getaffinity(0)), other_running_threads()
    if cores > 1 and others:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        message = (
            f"{others} threads of other processes run on the {cores} cores, so ours wait for each other without "
            f"spinning (OMP_WAIT_POLICY=passive); OMP_NUM_THREADS={max(1, cores - others)} can be faster"
        )


def other_running_threads() -> int:
    """The fewest threads that ran or waited for a core beside this one, in some samples; 0 where they are not known."""
    least = sys.maxsize
    for _ in range(SAMPLES):
        try:
            running = Path("/proc/loadavg").read_text().split()[3].partition("/")[0]
        except (OSError, IndexError):
            return 0
        least = min(least, int(running) - 1)
        time.sleep(PAUSE)
    return max(0, least)

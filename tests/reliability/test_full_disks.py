"""When the disk is full at any moment, nothing is lost: the error names file, bytes and cure, and the run can resume.

The limit of the system on the size of files stands for the full disk.
"""

from __future__ import annotations

import random
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.budget import SEED, number_of_cases
from tests.reliability.short_training import FULL_DISK, check_equal, check_readable, finish, load_libraries, message


def full_after(event: int, num_bytes: int) -> Callable[[int], None]:
    """From an operation on, no file may grow beyond so many bytes."""

    def limit(number: int) -> None:
        if number == event:
            resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, resource.RLIM_INFINITY))

    return limit


@pytest.mark.slow
def test_a_training_whose_disk_is_full_at_any_moment_can_be_continued(tmp_path: Path) -> None:
    load_libraries()
    chance, whole, events = random.Random(SEED), tmp_path / "whole", tmp_path / "events"
    assert finish(whole, lambda number: events.write_text(str(number)) and None) == 0
    last, size = int(events.read_text()), (whole / "checkpoint.safetensors").stat().st_size
    failed = 0
    for _ in range(count := number_of_cases(2, 20)):
        folder = tmp_path / "run"
        num_bytes = chance.choice((0, 100, 5000, chance.randrange(size)))
        code = finish(folder, full_after(chance.randint(1, last * 3 // 4), num_bytes))
        assert code == FULL_DISK, message(folder)
        failed += 1
        for part in ("needed", "free", "Free some space, then continue with --resume"):
            assert part in message(folder)
        check_readable(folder)
        assert finish(folder) == 0, message(folder)
        check_equal(folder, whole)
        shutil.rmtree(folder)
    print(f"{failed} of {count} trainings stopped by a full disk, all ended bit for bit as expected")

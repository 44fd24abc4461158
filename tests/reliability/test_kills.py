"""A training that is killed at any moment loses nothing: its files are whole, and it ends as one that ran through.

Half of the kills come after a random time, half right before an operation on a file of the run folder.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.budget import SEED, number_of_cases
from tests.reliability.short_training import check_equal, check_readable, finish, kill_at, load_libraries, start

KILLED = -signal.SIGKILL


@pytest.mark.slow
def test_a_training_that_is_killed_at_any_moment_ends_as_one_that_ran_through(tmp_path: Path) -> None:
    load_libraries()
    chance, whole = random.Random(SEED), tmp_path / "whole"
    numbers: list[int] = []
    pipe = tmp_path / "events"
    begin = time.monotonic()
    assert finish(whole, lambda number: pipe.write_text(str(number)) and None) == 0
    seconds = time.monotonic() - begin
    events = int(pipe.read_text())
    count, kills, ends = number_of_cases(4, 100), 0, 0
    while kills < count:
        folder = tmp_path / "run"
        while True:
            if aimed := chance.random() < 0.5:
                code = finish(folder, kill_at(chance.randint(1, events)))
            else:
                process = start(folder)
                time.sleep(chance.uniform(0, seconds))
                process.kill()
                process.join()
                code = process.exitcode
            assert code in (KILLED, 0), (folder.with_suffix(".txt").read_text(), aimed)
            if code == 0:
                break
            kills += 1
            numbers.append(aimed)
            check_readable(folder)
            if chance.random() < 0.7:
                break
        assert finish(folder) == 0
        check_equal(folder, whole)
        shutil.rmtree(folder)
        ends += 1
    print(
        f"{kills} kills, {sum(numbers)} before an operation on a file; {ends} trainings ended bit for bit as expected"
    )

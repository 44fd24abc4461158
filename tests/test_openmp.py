"""Threads wait in a loop on a quiet machine, and sleep on a busy one."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from ganblocks import openmp

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="on Linux only")


def environment(monkeypatch, others: int, **variables: str) -> dict[str, str]:
    variables = dict(variables)
    system = SimpleNamespace(environ=variables, sched_getaffinity=lambda process: {0, 1})
    monkeypatch.setattr(openmp, "os", system)
    monkeypatch.setattr(openmp, "message", None)
    monkeypatch.setattr(openmp, "other_running_threads", lambda: others)
    openmp.tune_waiting()
    return variables


def test_nothing_is_set_on_a_quiet_machine(monkeypatch):
    assert environment(monkeypatch, others=0) == {}
    assert openmp.message is None


def test_threads_do_not_spin_beside_other_processes_and_the_log_has_it(monkeypatch):
    assert environment(monkeypatch, others=1) == {"OMP_WAIT_POLICY": "passive"}
    assert openmp.message is not None
    assert openmp.message.startswith("1 threads of other processes run on the 2 cores")
    assert openmp.message.endswith("OMP_NUM_THREADS=1 can be faster")


@pytest.mark.parametrize(
    "variables", [{"OMP_NUM_THREADS": "1"}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}]
)
def test_settings_of_the_environment_stay(monkeypatch, variables):
    assert environment(monkeypatch, others=1, **variables) == variables


def test_running_threads_are_counted():
    assert openmp.other_running_threads() >= 0

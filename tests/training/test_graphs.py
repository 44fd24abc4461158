"""`--cuda-graphs`: which steps are captured, and what they read. On a CPU a graph is the phases, run again."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest
import torch

from ganblocks.errors import RunError
from ganblocks.training.checkpoint import checkpoint_tensors
from ganblocks.training.step import graphs
from ganblocks.training.step.graphs import StepGraphs
from ganblocks.training.trainer import Trainer
from tests import tiny
from tests.training.conftest import LAZY, new_trainer, run


class Repeated:
    """A graph that runs the phases again."""

    def __init__(self, step_graphs):
        self.step_graphs = step_graphs
        self.replays = 0

    def replay(self):
        self.replays += 1
        self.step_graphs.phases(*self.step_graphs.inputs)


@pytest.fixture(autouse=True)
def graphs_without_cuda(monkeypatch):
    for name in ("Stream", "stream", "current_stream", "graph_pool_handle"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    monkeypatch.setattr(StepGraphs, "capture", lambda self: Repeated(self))


def graphs_of(phases, states):
    states = iter(states)
    return StepGraphs(phases, lambda: next(states), torch.device("cpu"))


def test_each_state_is_captured_after_its_warm_up():
    results = []
    step_graphs = graphs_of(lambda x: results.append(x.item()), "aaababbba")
    for value in range(9):
        step_graphs(torch.tensor(float(value)))
    assert results == list(range(9))
    assert {state: graph.replays for state, graph in step_graphs.graphs.items()} == {"a": 2, "b": 1}
    assert step_graphs.steps == {"a": 3, "b": 3}


def test_steps_whose_state_never_repeats_are_not_captured():
    calls = []
    step_graphs = graphs_of(lambda: calls.append(1), range(2000))
    for _ in range(2000):
        step_graphs()
    assert len(calls) == 2000
    assert not step_graphs.graphs
    assert len(step_graphs.steps) <= graphs.MAX_COUNTED + 1


def test_the_number_of_graphs_is_limited(monkeypatch):
    monkeypatch.setattr(graphs, "MAX_GRAPHS", 2)
    step_graphs = graphs_of(lambda: None, "aaaabbbbcccccc")
    for _ in range(14):
        step_graphs()
    assert list(step_graphs.graphs) == ["a", "b"]


def test_the_host_state_is_what_is_due_and_what_schedules_change():
    trainer = new_trainer(tiny.gan(augment={"kind": "fading-blur", "init_sigma": 2.0, "fade_kimg": 1.5}))
    states = []
    for trainer.step in (0, 1, 2, 200, 202):
        trainer.follow_schedules()
        states.append(trainer.host_state())
    assert [state[0] for state in states] == [("r1",), (), ("r1",), ("r1",), ("r1",)]
    assert len({*states[:3]}) == 3
    assert states[3] == states[4]  # the blur has faded


def test_captured_steps_train_like_others(monkeypatch):
    document = tiny.gan(generator_optimizer={"lr": 2**-9, "decay_kimg": 0.1}, discriminator_optimizer={"lr": 2**-9})
    states = []
    for captured in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(
                Trainer, "step_graphs", lambda self: StepGraphs(self.optimize, self.host_state, torch.device("cpu"))
            )
            trainer = new_trainer(document, cuda_graphs=captured)
        images = torch.Generator().manual_seed(1)
        for _ in range(10):
            trainer.train_step(torch.rand(8, 3, 16, 16, generator=images), None)
        states.append({name: value.clone() for name, value in checkpoint_tensors(trainer).items()})
        states[-1] |= {name: torch.tensor(value) for name, value in trainer.losses.read().items()}
    assert sum(graph.replays for graph in trainer.graphs.graphs.values()) == 4
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_captured_is_refused(tmp_path):
    with pytest.raises(RunError, match="--cuda-graphs needs a CUDA device, not cpu"):
        run(LAZY, tmp_path / "run", steps=1, cuda_graphs=True)
    trainer = new_trainer(tiny.gan(style_mixing=0.5))
    trainer.distributed.device = torch.device("cuda")
    with pytest.raises(RunError, match="--cuda-graphs: style mixing is drawn in each step; set style_mixing to 0"):
        trainer.step_graphs()

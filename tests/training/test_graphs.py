"""`--cuda-graphs`: which steps are captured, and what they read. On a CPU a graph is the phases, run again."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch

from blocks import LinearSchedule
from blocks.families import CurrentValue
from ganblocks.errors import RunError
from ganblocks.training.checkpoint import checkpoint_tensors
from ganblocks.training.step import graphs
from ganblocks.training.step.adam import DeviceAdam
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
    monkeypatch.setattr(graphs, "TwinGenerators", MagicMock())
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


def changing(init, final):
    return {"kind": "linear", "init": init, "final": final, "kimg": 0.1}


SCHEDULED = tiny.gan(
    generator_optimizer={"lr": changing(2**-9, 2**-10), "betas": [0.0, changing(0.9, 0.99)]},
    discriminator_optimizer={"lr": 2**-9, "betas": [changing(0.5, 0.1), changing(0.9, 0.99)], "weight_decay": 0.1},
    regularizers=[{"kind": "r1", "gamma": changing(4.0, 1.0), "every": 2}],
)
DECAYING = tiny.gan(generator_optimizer={"lr": 2**-9, "decay_kimg": 0.1}, discriminator_optimizer={"lr": 2**-9})


@pytest.mark.parametrize("document", [DECAYING, SCHEDULED], ids=["decay", "schedules"])
def test_captured_steps_train_like_others(document, monkeypatch):
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


@pytest.mark.parametrize(
    ("changes", "micro_batch", "message"),
    [
        ({"style_mixing": 0.5}, None, "style mixing is drawn in each step; set style_mixing to 0"),
        (
            {"augment": {"kind": "ada", "policy": ["blit"]}},
            None,
            "ada measures how far its geometric transforms reach out of images of 16x16 pixels; remove blit and "
            "geometry from its policy, or train without graphs",
        ),
        (
            {"regularizers": [{"kind": "path-length"}]},
            4,
            "path-length repeats its random numbers for each micro-batch; omit --micro-batch",
        ),
    ],
)
def test_steps_that_cannot_be_captured_are_refused(changes, micro_batch, message, monkeypatch):
    monkeypatch.setattr(graphs, "SMALL", 16 * 16 - 1)
    trainer = new_trainer(tiny.gan(**changes), micro_batch=micro_batch)
    trainer.distributed.device = torch.device("cuda")
    with pytest.raises(RunError) as error:
        trainer.step_graphs()
    assert str(error.value) == f"--cuda-graphs: {message}"


def test_adam_with_rates_on_the_device_is_adam():
    """PyTorch's float64 Adam is the reference; a step whose gradients are not finite changes nothing."""
    torch.manual_seed(0)
    start = [torch.randn(3, 2), torch.randn(5)]
    references = [each.double().requires_grad_() for each in start]
    parameters = [each.clone().requires_grad_() for each in start]
    adam = torch.optim.AdamW(references, lr=0.1, betas=(0.0, 0.9), eps=1e-6, weight_decay=0.1)
    device_adam = DeviceAdam(parameters, lr=torch.tensor(0.1), betas=(0.0, 0.9), eps=1e-6, weight_decay=0.1)
    for index in range(8):
        rates = 0.1 / (index + 1), index / 20, 0.9 + index / 100
        (adam_group,), (group,) = adam.param_groups, device_adam.param_groups
        adam_group["lr"], adam_group["betas"] = rates[0], rates[1:]
        for tensor, value in zip((group["lr"], *group["betas"]), rates, strict=True):
            tensor.fill_(value)
        for parameter, reference in zip(parameters[: 1 + index % 2], references, strict=False):
            reference.grad = torch.randn_like(reference)
            parameter.grad = torch.full_like(parameter, torch.nan) if index in (0, 5) else reference.grad.float()
        device_adam.found_inf = torch.tensor(float(index in (0, 5)))
        device_adam.step()
        if index not in (0, 5):
            adam.step()
        for optimizer in (adam, device_adam):
            optimizer.zero_grad()
    for parameter, reference in zip(parameters, references, strict=True):
        torch.testing.assert_close(parameter.double(), reference, rtol=1e-6, atol=1e-6)
    assert [each["step"].item() for each in device_adam.state.values()] == [6, 3]


def test_a_scheduled_value_on_cuda_changes_in_place():
    value = CurrentValue(LinearSchedule.Spec(init=4.0, final=1.0, kimg=1))
    on_cuda = SimpleNamespace(is_cuda=True, device=torch.device("cpu"), dtype=torch.float32)
    tensor = value.factor(on_cuda)
    value.at(500)
    assert value.factor(on_cuda) is tensor
    assert tensor.item() == value.factor(torch.zeros(())) == 2.5
    assert CurrentValue(3.0).factor(on_cuda) == 3.0

"""Random numbers that two calls have in common, on the CPU, on CUDA and in a CUDA graph."""

from __future__ import annotations

import pytest
import torch

from blocks.common.replay import TwinGenerators, with_same_draws


def noisy(x):
    return x + torch.randn_like(x), torch.rand(3, device=x.device), torch.rand(3)


def test_the_second_call_draws_what_the_first_one_drew(device):
    torch.manual_seed(0)
    first, second = with_same_draws(noisy, torch.zeros(5, device=device), torch.ones(5, device=device))
    torch.testing.assert_close(first[0] + 1, second[0])
    assert torch.equal(first[1], second[1])
    assert torch.equal(first[2], second[2])
    assert not torch.equal(torch.rand(3, device=device), first[1])


@pytest.mark.gpu
def test_twins_draw_the_same_in_a_graph_as_without():
    twins, x = TwinGenerators(torch.device("cuda")), torch.zeros(7, device="cuda")

    def draw():
        before = torch.randn_like(x)
        pairs = [with_same_draws(torch.randn_like, x, x) for _ in range(2)]
        return [before, *(each for pair in pairs for each in pair), torch.randn_like(x)]

    eager = []
    for seed in range(3):
        torch.manual_seed(seed)
        twins.seed()
        with twins.used():
            eager.append([each.clone() for each in draw()])
    graph = torch.cuda.CUDAGraph()
    for twin in twins.twins:
        graph.register_generator_state(twin)
    with twins.used(), torch.cuda.graph(graph):
        captured = draw()
    torch.cuda.synchronize()  # the capture writes its own seed on another stream
    for seed in range(3):
        torch.manual_seed(seed)
        twins.seed()
        graph.replay()
        for value, expected in zip(captured, eager[seed], strict=True):
            assert torch.equal(value, expected)
        before, first, second, third, fourth, after = captured
        assert torch.equal(first, second)
        assert torch.equal(third, fourth)
        assert len({each.sum().item() for each in (before, first, third, after)}) == 4
    assert len({values[1].sum().item() for values in eager}) == 3

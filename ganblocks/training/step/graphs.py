"""The phases of a training step captured in CUDA graphs: one launch replaces those of thousands of kernels.

A graph repeats the same kernels on the same memory, https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.
What differs from step to step is copied into tensors that the graph reads: images, conditions, learning rates, the
state of the random numbers. What the host decides from, such as the regularizers that are due, chooses the graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable

import torch
from torch import Tensor, nn

from assemblies import GAN
from blocks.augment.ada.warp import SMALL, Warp
from blocks.common.replay import TwinGenerators
from ganblocks.errors import RunError
from registry import Spec

WARM_UP = 3  # uncaptured steps before a capture: libraries allocate, kernels are compiled and chosen
MAX_GRAPHS = 16
MAX_COUNTED = 1000

Phases = Callable[..., None]


class StepGraphs:
    """Runs the phases of steps, and replays them once they are captured.

    Args:
        phases: The phases of a step, which read nothing from the device.
        state: All that the host's code in `phases` depends on; the steps of each state have a graph of their own.
        device: A CUDA device.
    """

    def __init__(self, phases: Phases, state: Callable[[], Hashable], device: torch.device) -> None:
        self.phases, self.state, self.device = phases, state, device
        self.graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self.steps: Counter[Hashable] = Counter()  # uncaptured steps
        self.inputs: tuple[Tensor | None, ...] = ()
        self.twins = TwinGenerators(device)
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, *inputs: Tensor | None) -> None:
        """The phases of one step on tensors of always the same shapes.

        Raises:
            RunError: The phases cannot be captured.
        """
        if not self.inputs:
            self.inputs = tuple(None if each is None else torch.empty_like(each) for each in inputs)
        for kept, new in zip(self.inputs, inputs, strict=True):
            if kept is not None and new is not None:
                kept.copy_(new)
        state, current = self.state(), torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        self.twins.seed()
        with torch.cuda.stream(self.stream), self.twins.used():
            self.run(state)
        current.wait_stream(self.stream)

    def run(self, state: Hashable) -> None:
        """Replay the graph of a state, or capture it if the state occurred often enough, or run uncaptured."""
        if state not in self.graphs:
            if self.steps[state] < WARM_UP or len(self.graphs) == MAX_GRAPHS:
                if len(self.steps) > MAX_COUNTED:  # a value that changes in each step, such as a fading blur's
                    self.steps.clear()
                self.steps[state] += 1
                self.phases(*self.inputs)
                return
            self.graphs[state] = self.capture()
        self.graphs[state].replay()

    def capture(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        for twin in self.twins.twins:
            graph.register_generator_state(twin)
        try:
            # threads that load data may use CUDA meanwhile
            with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
                self.phases(*self.inputs)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise RunError(f"--cuda-graphs: a step cannot be captured: {reason}; train without it") from error
        return graph


def check_capturable(
    spec: Spec, gan: GAN, device: torch.device, processes: int = 1, micro_batch: int | None = None
) -> None:
    """Check that the steps of a document can be captured.

    Args:
        spec: The document.
        gan: Its GAN.
        device: Device of the training.
        processes: Number of processes.
        micro_batch: Images of this process in one pass; None for all.

    Raises:
        RunError: They cannot.
    """
    if device.type != "cuda":
        raise RunError(f"--cuda-graphs needs a CUDA device, not {device.type}")
    if processes > 1:
        raise RunError("--cuda-graphs: gradients are exchanged between processes; train in one process")
    if spec.checkpoint.generator or spec.checkpoint.discriminator:
        raise RunError("--cuda-graphs: checkpointing restores random numbers in each step; set checkpoint to false")
    if spec.style_mixing:
        raise RunError("--cuda-graphs: style mixing is drawn in each step; set style_mixing to 0")
    height, width = gan.generator.resolution
    if height * width > SMALL and any(isinstance(part, Warp) for part in gan.modules()):
        fact = f"ada measures how far its geometric transforms reach out of images of {height}x{width} pixels"
        raise RunError(f"--cuda-graphs: {fact}; remove blit and geometry from its policy, or train without graphs")
    if micro_batch is not None and micro_batch < spec.batch_size:
        for regularizer in spec.regularizers:
            if regularizer.block.needs_batch_mean:
                fact = f"{regularizer.kind} repeats its random numbers for each micro-batch"
                raise RunError(f"--cuda-graphs: {fact}; omit --micro-batch")


def host_numbers(modules: Iterable[nn.Module]) -> tuple[Hashable, ...]:
    """Numbers and texts among the attributes of modules: what their schedules change beside tensors."""
    attributes = [each for module in modules for part in module.modules() for each in vars(part).values()]
    values = [inner for each in attributes for inner in (each.values() if isinstance(each, dict) else [each])]
    return tuple(value for value in values if isinstance(value, bool | int | float | str))

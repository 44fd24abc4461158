"""Blocks that are built and called under another default dtype than float32."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import islice

import pytest
import torch

from registry import catalogue
from registry.testing.cases import Case, cases

FIRST = [case for entry in catalogue.entries() for case in islice(cases(entry.block), 1)]
CASES = [case for case in FIRST if case.harness.computes]


@pytest.fixture
def default_float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_block_built_in_float64_computes_in_float64(case: Case, default_float64: None) -> None:
    module = case.build().eval()
    inputs, state = case.inputs(module, dtype=torch.float64), copy.deepcopy(module.state_dict())
    outputs = case.run(module, inputs)
    assert {output.dtype for output in outputs} <= {torch.float64}

    torch.set_default_dtype(torch.float32)
    converted = case.build().eval().double()
    converted.load_state_dict(state)
    for output, expected in zip(outputs, case.run(converted, inputs), strict=True):
        torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)  # as far as float32 constants go

"""Which checks a block has to pass. A check takes a case and raises AssertionError where the block fails it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from registry.spec import Block
from registry.testing.call_checks import (
    gives_the_promised_shapes,
    keeps_dtype_and_device,
    leaves_its_inputs_alone,
    refuses_inputs_that_do_not_fit,
    takes_an_empty_batch,
)
from registry.testing.cases import Case, cases
from registry.testing.compile_checks import (
    compiles_to_machine_code,
    compiles_to_the_same_numbers,
    exports,
)
from registry.testing.gradient_checks import (
    differentiates_twice,
    trains_every_parameter,
    trains_in_mixed_precision,
    trains_under_checkpointing,
)
from registry.testing.harness import Harness
from registry.testing.spec_checks import is_documented, reads_back_what_it_writes, shows_as_the_code_that_makes_it
from registry.testing.state_checks import copies, loads_after_the_meta_device, restores_from_its_state

FEW_OPTIONS = 2  # sets of options of a block for checks that take long (machine code: 2 to 60 seconds) or hardly differ
SPEC_CHECKS = (reads_back_what_it_writes, shows_as_the_code_that_makes_it)
CASE_CHECKS = (
    gives_the_promised_shapes,
    keeps_dtype_and_device,
    leaves_its_inputs_alone,
    trains_every_parameter,
    trains_in_mixed_precision,
    trains_under_checkpointing,
    restores_from_its_state,
    loads_after_the_meta_device,
    copies,
)


class Check(NamedTuple):
    """One check of one case; call it to run it, on the CPU by default."""

    function: Callable[[Case], None]
    case: Case

    def __call__(self, device: str = "cpu") -> None:
        self.function(replace(self.case, device=device))

    def __str__(self) -> str:
        return f"{self.case}/{self.function.__name__}"


def checks(block: type[Block], *, harness: Harness | None = None, slow: bool = False) -> list[Check]:
    """All checks of a block, over its defaults and examples in all contexts of its family.

    Args:
        block: A block's class.
        harness: How blocks of its family are called; by default from the module `testing` of the family's package.
        slow: Return the checks that take many seconds each instead: compiling to machine code.

    Raises:
        LookupError: There is no harness for this family.
    """
    selected: list[Check] = []
    options: list[dict[str, Any]] = []
    called: list[tuple[dict[str, Any], set[str]]] = []
    for case in cases(block, harness):
        first = not options
        fresh = case.options not in options
        if fresh:
            options.append(case.options)
        if slow:
            compiled = case.harness.traceable and fresh and len(options) <= FEW_OPTIONS
            selected += [Check(compiles_to_machine_code, case)] if compiled else []
            continue
        selected += [Check(is_documented, case)] if first else []
        selected += [Check(each, case) for each in SPEC_CHECKS if fresh]
        selected += [Check(each, case) for each in case.harness.checks]
        if not case.harness.computes:
            continue
        selected += [Check(each, case) for each in CASE_CHECKS]
        inputs = (case.options, {name for name, value in case.context.items() if value})
        if inputs not in called and len(options) <= FEW_OPTIONS:  # contexts of other sizes have the same inputs
            called.append(inputs)
            selected.append(Check(refuses_inputs_that_do_not_fit, case))
        if case.harness.batched:
            selected.append(Check(takes_an_empty_batch, case))
        if case.harness.traceable and fresh:
            selected += [Check(compiles_to_the_same_numbers, case), Check(exports, case)]
        if case.harness.smooth and block.twice_differentiable:
            selected.append(Check(differentiates_twice, case))
    return selected

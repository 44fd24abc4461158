"""Types of options and of context values that many blocks have."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt

from registry.limits import AtMost


def _pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(
            f"should be odd, so that the window has a centre, not {value}; take {value - 1} or {value + 1}"
        )
    return value


Count = Annotated[PositiveInt, AtMost(1000, "each of them has weights and takes time of its own")]
"""Number of layers, copies or passes."""
Side = Annotated[PositiveInt, AtMost(2**16, "kernels have indices of 32 bits, and a map has its square of pixels")]
Resolution = Annotated[tuple[Side, Side], BeforeValidator(_pair, json_schema_input_type=Side | tuple[Side, Side])]
"""Height and width in pixels; one number for a square."""
OddInt = Annotated[PositiveInt, AfterValidator(_odd)]
Probability = Annotated[float, Field(ge=0, le=1)]

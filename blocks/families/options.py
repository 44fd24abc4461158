"""Types of options and of context values that many blocks have."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt


def _pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(
            f"should be odd, so that the window has a centre, not {value}; take {value - 1} or {value + 1}"
        )
    return value


Pair = tuple[PositiveInt, PositiveInt]
Resolution = Annotated[Pair, BeforeValidator(_pair, json_schema_input_type=PositiveInt | Pair)]
"""Height and width in pixels; one number for a square."""
OddInt = Annotated[PositiveInt, AfterValidator(_odd)]
Probability = Annotated[float, Field(ge=0, le=1)]

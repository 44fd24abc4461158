"""The options of a named data set, as `--data 'NAME?option=value&option=value'` gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError


class DataSetOptions(BaseModel):
    """Options of a named data set; unknown ones are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Chosen = TypeVar("Chosen", bound=DataSetOptions)


def chosen_options(model: type[Chosen], options: Mapping[str, str]) -> Chosen:
    """The options, validated.

    Raises:
        ValueError: An option is unknown, is missing, or has an invalid value.
    """
    try:
        return model.model_validate({name.replace("-", "_"): value for name, value in options.items()})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ValueError(f"{problems}; options are {', '.join(model.model_fields)}") from None

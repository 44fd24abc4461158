"""Checks of a block's spec: its documentation, its text forms and its repr."""

from __future__ import annotations

import json
import pickle
import sys
from typing import Any

import yaml
from pydantic import BaseModel

from registry.spec import Spec
from registry.testing.cases import Case
from registry.text import parse_docstring


def is_documented(case: Case) -> None:
    """The docstring has a summary line and describes each argument and option."""
    summary, described = parse_docstring(case.block.__doc__)
    assert summary.endswith("."), f"the first line of the docstring is not a sentence: {summary!r}"
    fields = case.block.Context.model_fields | case.block.Spec.model_fields
    missing = [name for name, field in fields.items() if name != "kind" and not field.description]
    assert not missing, f"Args: does not describe {', '.join(missing)}"
    unknown = sorted(set(described) - set(fields))
    assert not unknown, f"Args: describes {', '.join(unknown)}, which the signature does not have"


def reads_back_what_it_writes(case: Case) -> None:
    """Python, JSON, YAML and pickle give the same spec."""
    spec, model = case.spec, case.block.Spec
    assert model.model_validate(json.loads(json.dumps(spec.to_dict()))) == spec
    assert model.model_validate(yaml.safe_load(yaml.safe_dump(spec.to_dict()))) == spec
    assert model.model_validate_json(spec.model_dump_json()) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


def shows_as_the_code_that_makes_it(case: Case) -> None:
    """`repr` is code that makes the spec, and leaves out options at their defaults."""
    spec = case.spec
    assert eval(repr(spec), _names(spec)) == spec
    if not case.options:
        assert repr(spec) == f"{case.block.__name__}.Spec()"


def _names(value: Any) -> dict[str, Any]:
    """The names that the `repr` of a spec uses: those of its block's file, and of the specs inside it."""
    if isinstance(value, tuple):
        return {name: each for part in value for name, each in _names(part).items()}
    if not isinstance(value, BaseModel):
        return {}
    inside = {name: each for field in type(value).model_fields for name, each in _names(getattr(value, field)).items()}
    if not isinstance(value, Spec):
        return inside
    return vars(sys.modules[value.block.__module__]) | inside | {value.block.__name__: value.block}

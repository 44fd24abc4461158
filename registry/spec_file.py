"""Specs as files: YAML and JSON are two spellings of the same data, and a JSON schema describes them to an editor."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from registry.catalogue import HOW_TO_GET, catalogue
from registry.errors import Problem, SpecValidationError
from registry.messages import validation_error
from registry.slots import SLOT_MARKER, SlotOf
from registry.spec import Block, Spec


def validate(data: Any, *families: type[Block], subject: str = "") -> Spec:
    """The spec that `data` (a mapping, a bare kind, or a spec already) is, of one of `families`.

    Raises:
        SpecValidationError: All that is wrong with its form, each with a path.
    """
    try:
        return SlotOf(*_fitting(data, families)).validate(data)
    except ValidationError as error:
        found = validation_error(error, subject)
        raise SpecValidationError([_with_package(problem, data) for problem in found.problems], subject) from None
    except ValueError as error:  # a slot's own complaint, at the top of the document
        raise SpecValidationError([Problem((), str(error))], subject) from None


def read(path: str | Path, *families: type[Block]) -> Spec:
    """The spec in a YAML or JSON file.

    Raises:
        SpecValidationError: The file is no YAML or JSON, or its spec is not valid.
        OSError: The file cannot be read.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        data = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}: "
        raise SpecValidationError([Problem((), f"is not JSON: {place}{error.msg}")], str(path)) from None
    except UnicodeDecodeError:
        raise SpecValidationError([Problem((), "is not a text file; a spec is YAML or JSON")], str(path)) from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        place = f"line {where.line + 1}, column {where.column + 1}: " if where else ""
        what = getattr(error, "problem", None) or str(error)
        raise SpecValidationError([Problem((), f"is neither YAML nor JSON: {place}{what}")], str(path)) from None
    if not isinstance(data, Mapping):
        raise SpecValidationError(
            [Problem((), f"a spec is a mapping with `kind`, not {type(data).__name__}")], str(path)
        )
    return validate(data, *families, subject=path.name)


def write(spec: Spec, path: str | Path) -> None:
    """Write a spec in full to a .yaml, .yml or .json file, whole or not at all."""
    path = Path(path)
    text = json.dumps(spec.to_dict(), indent=2) + "\n" if path.suffix == ".json" else to_yaml(spec)
    write_whole(path, text.encode())


def to_yaml(spec: Spec) -> str:
    """The spec in full as YAML."""
    return yaml.safe_dump(spec.to_dict(), sort_keys=False, width=120, default_flow_style=None)


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file by way of a temporary one beside it, so that no reader ever sees half of it."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def schema(*families: type[Block]) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a document of one of `families`, over all that is installed.

    Each family is a definition that allows its kinds, by name or as a mapping; editors complete from it.
    """
    definitions: dict[str, Any] = {}
    for entry in catalogue.entries():
        block = entry.block
        name = f"{block.family_name}.{block.kind}"
        own = _with_references(block.Spec.model_json_schema())
        definitions |= own.pop("$defs", {})
        definitions[name] = own | {"title": name, "description": entry.summary, "required": _required(own)}
    for name in Block.families:
        kinds = [entry.block.kind for entry in catalogue.entries(name)]
        definitions[name] = {
            "title": name,
            "anyOf": [{"enum": kinds}, *({"$ref": f"#/$defs/{name}.{kind}"} for kind in kinds)],
        }
    root = [{"$ref": f"#/$defs/{family.family_name}"} for family in families]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ganblocks",
        "anyOf": root,
        "$defs": definitions,
    }


def _with_references(part: Any) -> Any:
    if isinstance(part, list):
        return [_with_references(each) for each in part]
    if not isinstance(part, dict):
        return part
    if families := part.get(SLOT_MARKER):
        references = [{"$ref": f"#/$defs/{family}"} for family in families]
        rest = {name: value for name, value in part.items() if name != SLOT_MARKER}
        return rest | (references[0] if len(references) == 1 else {"anyOf": references})
    return {name: _with_references(value) for name, value in part.items()}


def _required(own: dict[str, Any]) -> list[str]:
    return ["kind", *(name for name in own.get("required", []) if name != "kind")]


def _fitting(data: Any, families: tuple[type[Block], ...]) -> tuple[type[Block], ...]:
    """Of families that share a kind, the one whose options the data names; all of them where that decides nothing."""
    if not isinstance(data, Mapping) or len(families) == 1:
        return families
    entries = [(family, catalogue.get(family.family_name, str(data.get("kind")))) for family in families]
    same = [(len(set(data) & set(entry.block.Spec.model_fields)), family) for family, entry in entries if entry]
    return (max(same, key=lambda pair: pair[0])[1],) if same else families


def _with_package(problem: Problem, data: Any) -> Problem:
    """Documents that we wrote name the packages they need; say so where a kind is missing."""
    named = data.get("plugins") if isinstance(data, Mapping) else None
    if HOW_TO_GET not in problem.message or not isinstance(named, Mapping):
        return problem
    installed = {entry.origin.package for entry in catalogue.entries()}
    if not (missing := [name for name in named if name not in installed]):
        return problem
    packages = " and ".join(f"{name} {named[name]}" for name in missing)
    cure = f"the document was made with {packages}, not installed here: pip install {' '.join(missing)}"
    return Problem(problem.path, problem.message.replace(HOW_TO_GET, cure))

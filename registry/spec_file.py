"""Reads and writes specs as YAML and JSON files, and makes the JSON schema that editors complete from."""

from __future__ import annotations

import json
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from registry.catalogue import PROJECT, catalogue
from registry.errors import Problem, SpecValidationError
from registry.limits import MAX_INTEGER, data_problems
from registry.messages import validation_error
from registry.plain_data import MAX_BYTES, parse
from registry.slots import HOW_TO_GET, SLOT_MARKER, SlotOf
from registry.spec import Block, Spec
from registry.text import excerpt

if TYPE_CHECKING:
    from torch import Tensor


def validate(data: Any, *families: type[Block], subject: str = "", plugins: Mapping[str, str] | None = None) -> Spec:
    """Validate a spec.

    Args:
        data: A mapping with `kind`, a kind alone, or a spec.
        families: The families that its block may belong to.
        subject: What the error message calls it, such as a file name.
        plugins: Packages that it was made with, and their versions; by default its field `plugins`. A warning lists
            those of which another version is installed.

    Raises:
        SpecValidationError: It is not valid; all problems are listed.
    """
    if plugins is None:
        listed = data.get("plugins") if isinstance(data, Mapping) else None
        plugins = listed if isinstance(listed, Mapping) else {}
    if problems := data_problems(data):
        raise SpecValidationError(problems, subject)
    try:
        spec = SlotOf(*_fitting(data, families)).validate(data)
    except ValueError as error:  # of pydantic, or of the slot at the top of the document
        problems = [Problem((), str(error))]
        if isinstance(error, ValidationError):
            problems = list(validation_error(error, subject).problems)
        problems = [_with_package(problem, plugins) for problem in problems]
        raise SpecValidationError([*problems, *_other_versions(plugins)], subject) from None
    if others := [each.message for each in _other_versions(plugins) if each.path[-1] != PROJECT]:
        warnings.warn(f"{subject or spec.kind} was made {'; '.join(others)}", stacklevel=2)
    return spec


def read(path: str | Path, *families: type[Block]) -> Spec:
    """Read a spec from a YAML or JSON file.

    Raises:
        SpecValidationError: The file is neither YAML nor JSON, or its spec is not valid.
        OSError: The file cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    data = parse(content, "json" if path.suffix == ".json" else "yaml", str(path))
    if not isinstance(data, Mapping):
        raise SpecValidationError(
            [Problem((), f"a spec is a mapping with `kind`, not {type(data).__name__}")], str(path)
        )
    return validate(data, *families, subject=path.name)


def write(spec: Spec, path: str | Path) -> None:
    """Write a spec in full to a .yaml, .yml or .json file. An interrupted write leaves the old file."""
    path = Path(path)
    text = json.dumps(spec.to_dict(), indent=2) + "\n" if path.suffix == ".json" else to_yaml(spec)
    write_atomically(path, text.encode())


def to_yaml(spec: Spec) -> str:
    """The spec in full as YAML."""
    return yaml.safe_dump(spec.to_dict(), sort_keys=False, width=120, default_flow_style=None)


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file by replacing it with a temporary one, so that readers get the old content or the new."""
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(content)


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors of any device as a .safetensors file by replacing it, without a copy of them in memory.

    Raises:
        OSError: The file cannot be written, for example because the disk is full.
    """
    from safetensors import SafetensorError  # here, because it imports torch
    from safetensors.torch import save_file

    values = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    first = {value.untyped_storage().data_ptr(): name for name, value in reversed(values.items())}
    for name, value in values.items():
        if value.nbytes and first[value.untyped_storage().data_ptr()] != name:
            values[name] = value.clone()  # tied weights: the format has no tensors that share memory
    with replacing(Path(path)) as temporary:
        try:
            save_file(values, temporary, dict(metadata))
        except SafetensorError as error:
            if (number := re.search(r"\(os error (\d+)\)", str(error))) is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`; it replaces `path` at the end of the block, and is removed after an error.

    Its content is on the disk before it replaces `path`: a power loss leaves the old content or the new.
    """
    temporary, prefix = None, f".{path.name}."
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and Path(str(error.filename)).name.startswith(prefix):  # name the file itself
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def schema(*families: type[Block]) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a document of one of `families`, with all installed blocks.

    Each family is a definition that allows its kinds, by name or as a mapping.
    """
    definitions: dict[str, Any] = {}
    for entry in catalogue.entries():
        block = entry.block
        name = _definition(block.family_name, entry.kind)
        model = _with_references(block.Spec.model_json_schema())
        definitions |= model.pop("$defs", {})
        definitions[name] = model | {"title": name, "description": entry.summary, "required": _required(model)}
    for name in Block.families:
        kinds = [entry.kind for entry in catalogue.entries(name)]
        definitions[name] = {
            "title": name,
            "anyOf": [{"enum": kinds}, *({"$ref": f"#/$defs/{_definition(name, kind)}"} for kind in kinds)],
        }
    root = [{"$ref": f"#/$defs/{family.family_name}"} for family in families]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ganblocks",
        "anyOf": root,
        "$defs": definitions,
    }


def _definition(family: str, kind: str) -> str:
    """Name of a block's definition; in a reference, a slash would separate parts of a path."""
    return f"{family}.{kind.replace('/', '.')}"


def _with_references(part: Any) -> Any:
    if isinstance(part, list):
        return [_with_references(each) for each in part]
    if not isinstance(part, dict):
        return part
    if part.get("type") == "integer":
        part = {"minimum": -MAX_INTEGER, "maximum": MAX_INTEGER} | part
    if families := part.get(SLOT_MARKER):
        references = [{"$ref": f"#/$defs/{family}"} for family in families]
        rest = {name: value for name, value in part.items() if name != SLOT_MARKER}
        return rest | (references[0] if len(references) == 1 else {"anyOf": references})
    return {name: _with_references(value) for name, value in part.items()}


def _required(model: dict[str, Any]) -> list[str]:
    return ["kind", *(name for name in model.get("required", []) if name != "kind")]


def _fitting(data: Any, families: tuple[type[Block], ...]) -> tuple[type[Block], ...]:
    """Of families that share the kind of `data`, the one that has most of its options; all where none has the kind."""
    if not isinstance(data, Mapping) or len(families) == 1:
        return families
    entries = [(family, catalogue.get(family.family_name, str(data.get("kind")))) for family in families]
    matches = [(len(set(data) & set(entry.block.Spec.model_fields)), family) for family, entry in entries if entry]
    return (max(matches, key=lambda pair: pair[0])[1],) if matches else families


def _with_package(problem: Problem, plugins: Mapping[str, str]) -> Problem:
    """The problem of an unknown kind, with the packages of `plugins` that are missing."""
    missing = [name for name in plugins if installed_version(name) is None]
    if HOW_TO_GET not in problem.message or not missing:
        return problem
    versions = " and ".join(f"{name} {plugins[name]}" for name in missing)
    cure = f"(the document was made with {versions}, not installed here: pip install {' '.join(missing)})"
    return Problem(problem.path, problem.message.replace(HOW_TO_GET, cure))


def _other_versions(plugins: Mapping[str, str]) -> Iterator[Problem]:
    """The packages of which another version is installed."""
    for name, version in plugins.items():
        if (installed := installed_version(name)) is not None and installed != version:
            made = f"{name} {excerpt(version, 30)}"
            cure = f"for the same results: pip install {made.replace(' ', '==')}"
            yield Problem(("plugins", name), f"with {made}, and {installed} is installed here; {cure}")


def installed_version(package: str) -> str | None:
    """The version of an installed distribution; None if it is not installed."""
    try:
        return metadata.version(package)
    except (metadata.PackageNotFoundError, ValueError):
        return None

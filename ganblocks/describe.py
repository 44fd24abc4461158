"""The catalogue as plain data: families, kinds, options and presets, for `ganblocks.blocks()` and the command line."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema

from ganblocks.errors import UsageError
from registry import Block, Entry, Spec, catalogue
from registry.errors import nearest
from registry.slots import SLOT_MARKER
from registry.text import parse_docstring

BOUNDS = {"exclusiveMinimum": "> {}", "minimum": ">= {}", "exclusiveMaximum": "< {}", "maximum": "<= {}"}


def families() -> list[dict[str, Any]]:
    """The families with their summaries and kinds, in the order of their declaration."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for entry in catalogue.entries():
        kinds.setdefault(entry.block.family_name, []).append(summary_of(entry))
    return [
        {"family": name, "summary": parse_docstring(family.__doc__)[0], "kinds": kinds.get(name, [])}
        for name, family in Block.families.items()
    ]


def named(name: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The families and the blocks of a name; several families may have the same kind.

    Raises:
        UsageError: There is no such family or kind.
    """
    matching = [family for family in families() if family["family"] == name]
    entries = [details_of(entry) for entry in catalogue.entries() if entry.block.kind == name]
    if not matching and not entries:
        valid = sorted({str(entry.block.kind) for entry in catalogue.entries()} | set(Block.families))
        raise UsageError(f"unknown kind or family {name!r}; {nearest(name, valid)}")
    return matching, entries


def presets() -> list[dict[str, str]]:
    """The presets with their summaries, by name."""
    return [
        {"preset": name, "summary": parse_docstring(function.__doc__)[0]}
        for name, function in catalogue.presets().items()
    ]


def summary_of(entry: Entry) -> dict[str, Any]:
    return {
        "family": entry.block.family_name,
        "kind": entry.block.kind,
        "summary": entry.summary,
        "package": entry.origin.package,
        "version": entry.origin.version,
    }


def details_of(entry: Entry) -> dict[str, Any]:
    """A block with its paper, context and options."""
    block = entry.block
    return summary_of(entry) | {
        "plugin": entry.origin.plugin,
        "module": block.__module__,
        "class": block.__qualname__,
        "paper": entry.paper,
        "context": _parameters(block.Context),
        "options": [option for option in _parameters(block.Spec) if option["name"] != "kind"],
    }


def _parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    try:
        schema = model.model_json_schema()
    except PydanticInvalidForJsonSchema:  # the context may be a tensor
        schema = {}
    properties, definitions = schema.get("properties", {}), schema.get("$defs", {})
    return [
        {
            "name": name,
            "type": type_of(properties[name], definitions) if name in properties else str(field.annotation),
            "required": field.is_required(),
            "default": None
            if field.is_required()
            else _plain(field.get_default(call_default_factory=True, validated_data={})),
            "description": field.description or "",
        }
        for name, field in model.model_fields.items()
    ]


def type_of(schema: dict[str, Any] | bool, definitions: dict[str, Any]) -> str:
    """A JSON schema as a few words."""
    if isinstance(schema, bool):
        return "anything"
    if families := schema.get(SLOT_MARKER):
        return f"block of family {' or '.join(families)}"
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        fields = definitions.get(name, {}).get("properties", {})
        return f"{{{', '.join(fields)}}}" if fields else name
    if "enum" in schema or "const" in schema:
        return " | ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_of(each, definitions) for each in schema["anyOf"]))
    kind = schema.get("type", "anything")
    if "prefixItems" in schema:
        return f"[{', '.join(type_of(each, definitions) for each in schema['prefixItems'])}]"
    if kind == "array":
        return f"list of {type_of(schema.get('items', {}), definitions)}"
    if kind == "object":
        return (
            f"mapping to {type_of(schema['additionalProperties'], definitions)}"
            if schema.get("additionalProperties")
            else kind
        )
    bounds = [text.format(schema[name]) for name, text in BOUNDS.items() if name in schema]
    return " ".join([kind, *bounds])


def _plain(value: Any) -> Any:
    """A default as JSON data; a slot's spec as its kind where all options have their defaults."""
    if isinstance(value, Spec):
        return value.kind if value == type(value)() else value.to_dict()
    if isinstance(value, type) and issubclass(value, Block):
        return value.kind
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value

"""The catalogue as plain data: families, kinds, options and presets, for `ganblocks.blocks()` and the command line."""

from __future__ import annotations

import inspect
import re
from itertools import takewhile
from types import CodeType
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema

from ganblocks.errors import UsageError
from ganblocks.json_cache import cached
from registry import Block, Entry, Op, Spec, catalogue
from registry.errors import nearest
from registry.slots import SLOT_MARKER
from registry.text import parse_docstring

BOUNDS = {"exclusiveMinimum": "> {}", "minimum": ">= {}", "exclusiveMaximum": "< {}", "maximum": "<= {}"}
SECTION = re.compile(r"(Args|Raises|Returns):")


def everything() -> dict[str, Any]:
    """Families with their kinds, blocks with all details, and presets."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for entry in catalogue.entries():
        kinds.setdefault(entry.block.family_name, []).append(summary_of(entry))
    return {
        "families": [
            {"family": name, "summary": parse_docstring(family.__doc__)[0], "kinds": kinds.get(name, [])}
            for name, family in Block.families.items()
        ],
        "blocks": [details_of(entry) for entry in catalogue.entries()],
        "presets": [
            {"preset": name, "summary": parse_docstring(function.__doc__)[0]}
            for name, function in catalogue.presets().items()
        ],
    }


def families() -> list[dict[str, Any]]:
    """The families with their summaries and kinds, in the order of their declaration."""
    return list(cached("catalogue", everything)["families"])


def blocks(families: list[str] | None = None, search: str = "") -> list[dict[str, Any]]:
    """The blocks with all details.

    Args:
        families: Only those of these families; None for all.
        search: Only those that contain this text, in any case, in their kind, description, paper or options.

    Raises:
        UsageError: There is no such family.
    """
    data = cached("catalogue", everything)
    names = [each["family"] for each in data["families"]]
    for family in families or []:
        if family not in names:
            raise UsageError(f"unknown family {family!r}; {nearest(family, names)}{catalogue.failed()}")
    selected = [each for each in data["blocks"] if families is None or each["family"] in families]
    return [details for details in selected if search.lower() in _text_of(details).lower()]


def named(name: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The families and the blocks of a name; several families may have the same kind.

    Raises:
        UsageError: There is no such family or kind.
    """
    data = cached("catalogue", everything)
    matching = [family for family in data["families"] if family["family"] == name]
    entries = [each for each in data["blocks"] if name in (each["kind"], each["kind"].rpartition("/")[2])]
    if not matching and not entries:
        valid = sorted({each["kind"] for each in data["blocks"]} | {each["family"] for each in data["families"]})
        raise UsageError(f"unknown kind or family {name!r}; {nearest(name, valid)}{catalogue.failed()}")
    return matching, entries


def presets() -> list[dict[str, str]]:
    """The presets with their summaries, by name."""
    return list(cached("catalogue", everything)["presets"])


def summary_of(entry: Entry) -> dict[str, Any]:
    return {
        "family": entry.block.family_name,
        "kind": entry.kind,
        "summary": entry.summary,
        "paper": entry.paper,
        "package": entry.origin.package,
        "version": entry.origin.version,
    }


def details_of(entry: Entry) -> dict[str, Any]:
    """A block with its description, paper, shapes, derivatives, kernels, context and options."""
    block = entry.block
    return summary_of(entry) | {
        "plugin": entry.origin.plugin,
        "module": block.__module__,
        "class": block.__qualname__,
        "description": _paragraphs(block.__doc__),
        "contract": parse_docstring(block.family.__doc__)[0],
        "twice_differentiable": block.twice_differentiable,
        "kernels": {
            op.name: [{"kernel": each.name, "second_order": each.second_order} for each in op.kernels()]
            for op in _ops_of(block)
        },
        "context": _parameters(block.Context),
        "options": [option for option in _parameters(block.Spec) if option["name"] != "kind"],
    }


def _paragraphs(text: str | None) -> list[str]:
    """The paragraphs of a docstring between its first line and its arguments."""
    paragraphs = inspect.cleandoc(text or "").split("\n\n")[1:]
    return [" ".join(each.split()) for each in takewhile(lambda each: not SECTION.match(each), paragraphs)]


def _ops_of(block: type[Block]) -> list[Op]:
    """The ops that a block's code names, directly or in functions and classes of its file and of `blocks.common`."""
    ops: dict[str, Op] = {}
    seen: set[int] = set()
    waiting: list[Any] = [each for each in block.__mro__ if "kind" in vars(each) and each is not Block]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Op):
            ops[value.name] = value
        elif isinstance(value, type):
            waiting += [each for each in vars(value).values() if inspect.isfunction(each)]
            waiting += [each for each in value.__bases__ if each.__module__.startswith("blocks.common.")]
        elif inspect.isfunction(value):
            named = [value.__globals__.get(name) for name in _names_in(value.__code__)]
            own = (value.__module__, "blocks.common.")
            waiting += [
                each for each in named if isinstance(each, Op) or str(getattr(each, "__module__", "")).startswith(own)
            ]
    return [op for _, op in sorted(ops.items())]


def _names_in(code: CodeType) -> set[str]:
    """The global names in a function's code and in the functions inside it."""
    inside = [_names_in(each) for each in code.co_consts if isinstance(each, CodeType)]
    return {*code.co_names}.union(*inside)


def _text_of(details: dict[str, Any]) -> str:
    """What a search looks in."""
    options = [f"{each['name']} {each['description']}" for each in details["options"]]
    return "\n".join(
        [details["kind"], details["summary"], *details["description"], details["paper"], *details["kernels"], *options]
    )


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

"""A slot is an option of a block that takes another block of a given family.

The kind is looked up in the catalogue at validation time, so blocks of other packages are validated as strictly as the
project's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar, get_args

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SerializationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from registry.catalogue import catalogue
from registry.errors import nearest
from registry.messages import shown
from registry.spec import Block, Spec

F = TypeVar("F")
SLOT_MARKER = "x-slot"
HOW_TO_GET = "(if another package provides it: pip install PACKAGE)"

if TYPE_CHECKING:
    Slot: TypeAlias = Spec | Mapping[str, Any] | str | type[F]
else:

    class Slot:
        """`Slot[Attention]` accepts a spec, a mapping with `kind`, a kind alone, or the block's class."""

        def __class_getitem__(cls, families: Any) -> Any:
            return Annotated[Spec, SlotOf(*(get_args(families) if isinstance(families, UnionType) else [families]))]


class SlotOf:
    """Validates, serialises and describes a slot for pydantic."""

    def __init__(self, *families: type[Block]) -> None:
        self.families = families

    def __repr__(self) -> str:
        return f"Slot[{' | '.join(family.__name__ for family in self.families)}]"

    @property
    def name(self) -> str:
        return " or ".join(family.family_name for family in self.families)

    def validate(self, value: Any) -> Spec:
        if isinstance(value, type) and issubclass(value, Block) and value.kind is not None:
            value = value.Spec()
        if isinstance(value, Spec):
            if not issubclass(value.block, self.families):
                raise _wrong(f"{value.kind} is of family {value.block.family_name}; this option takes {self.name}")
            return value
        options = {"kind": value} if isinstance(value, str) else value
        if not isinstance(options, Mapping) or not isinstance(options.get("kind"), str):
            raise _wrong(
                f"should be a block of family {self.name}: its kind, or a mapping with `kind`, not {shown(value)}"
            )
        return self.find(options["kind"]).Spec.model_validate(dict(options))

    def find(self, kind: str) -> type[Block]:
        for family in self.families:
            if (entry := catalogue.get(family.family_name, kind)) is not None:
                return entry.block
        raise _wrong(self.unknown(kind))

    def unknown(self, kind: str) -> str:
        """The message for an unknown kind: the family that has it, or similar kinds and how to install it."""
        valid = [entry.kind for family in self.families for entry in catalogue.entries(family.family_name)]
        elsewhere = [entry.block.family_name for entry in catalogue.entries() if entry.kind == kind]
        fact = f"unknown {self.name} {kind!r}"
        if elsewhere:
            return f"{fact}, which is a kind of {' and '.join(elsewhere)}; {nearest(kind, valid)}"
        return f"{fact}; {nearest(kind, valid)} {HOW_TO_GET}{catalogue.failed()}"

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        def serialize(spec: Spec, info: SerializationInfo) -> Any:
            return spec.model_dump(mode=info.mode)

        return core_schema.no_info_plain_validator_function(
            self.validate,
            serialization=core_schema.plain_serializer_function_ser_schema(serialize, info_arg=True),
        )

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A marker with the families' names; `spec_file.schema` replaces it by references to the installed blocks."""
        return {SLOT_MARKER: [family.family_name for family in self.families]}


def slot_of(annotation: Any) -> SlotOf | None:
    """The slot in a field's annotation, also inside `| None` or a tuple; None if there is none."""
    if isinstance(annotation, SlotOf):
        return annotation
    for part in get_args(annotation):
        if (slot := slot_of(part)) is not None:
            return slot
    return None


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("spec", "{message}", {"message": message})

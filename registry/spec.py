"""Blocks and their specs. One signature declares a block's context, its spec, its JSON schema and its documentation.

The keyword-only rule: positional parameters of `__init__` come from the surrounding model and are the block's
*context*; keyword-only parameters are chosen by the user and are the block's *spec*. When a class is defined, `Block`
derives a pydantic model of each.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PydanticSchemaGenerationError,
    ValidationError,
    WrapValidator,
    create_model,
    model_validator,
)

from registry.errors import IncompatibleError, Problem, SpecValidationError, incompatible
from registry.limits import data_problems
from registry.messages import as_validation_error, in_plain_words, validation_error
from registry.text import parse_docstring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import ModelWrapValidatorHandler

VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
WORDS = r"[a-z0-9]+(-[a-z0-9]+)*"


class Spec(BaseModel):
    """The options of a block: frozen data that converts to and from Python, YAML and JSON without loss."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())

    block: ClassVar[type[Block]]
    kind: str

    if TYPE_CHECKING:  # the fields are derived from signatures

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, /, **options: Any) -> None:
        try:
            super().__init__(**options)
        except ValidationError as error:
            raise validation_error(error, type(self).__qualname__) from None

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # so that nested specs do not use it

    def build(self, **context: Any) -> Any:
        """Build the block.

        Args:
            context: Values for the block's positional parameters. Those that it does not have are ignored.

        Raises:
            IncompatibleError: A required value is missing, or the block cannot be built with these values.
        """
        fields = self.block.Context.model_fields
        missing = [name for name, field in fields.items() if field.is_required() and context.get(name) is None]
        if missing:
            needs = " and ".join(self.block.missing_context.get(name, name) for name in missing)
            available = ", ".join(sorted(name for name, value in context.items() if value is not None)) or "nothing"
            raise incompatible((), f"{self.kind} needs {needs} (available here: {available})")
        return self.block(**{name: context[name] for name in fields if name in context}, **dict(self))

    def to_dict(self) -> dict[str, Any]:
        """The spec in full, defaults included, as plain JSON data; validation reads it back exactly."""
        return self.model_dump(mode="json")

    @model_validator(mode="wrap")
    @classmethod
    def _plain_errors(cls, data: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
        names = cls.block.renamed_options if hasattr(cls, "block") else {}  # `Spec` itself is any block's
        data, ambiguous = _renamed(names, data)
        if problems := data_problems(data) or ambiguous:
            raise as_validation_error(cls, problems)
        try:
            spec = handler(data)
        except ValidationError as error:
            raise in_plain_words(cls, error) from None
        if problems := data_problems(spec):  # pydantic converts texts such as "inf" and "99999999999" to numbers
            raise as_validation_error(cls, problems)
        return spec

    def __repr_name__(self) -> str:
        return type(self).__qualname__

    def __str__(self) -> str:
        return repr(self)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """The required options and those that differ from their defaults."""
        fields = type(self).model_fields
        required = {name: getattr(self, name) for name, field in fields.items() if field.is_required()}
        plain = type(self)(**required)  # validates the defaults: 4 becomes (4, 4), a kind becomes a spec
        for name, field in fields.items():
            if field.is_required() or getattr(self, name) != getattr(plain, name):
                yield name, getattr(self, name)


AnySpec: TypeAlias = Spec  # inside `Block`, the name Spec is the block's own spec


class BlockType(type):
    """Validates the arguments of a block, whether it is built from a spec or called as a class; see `Block`."""

    if not TYPE_CHECKING:  # type checkers use the signature of `__init__`

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            if cls.kind is None:
                return super().__call__(*args, **kwargs)
            names = list(cls.Context.model_fields)
            if len(args) > len(names):
                raise TypeError(
                    f"{cls.__name__} takes {len(names)} positional arguments ({', '.join(names)}), not {len(args)}"
                )
            values = dict(zip(names, args, strict=False))
            values |= {name: kwargs.pop(name) for name in names if name in kwargs}
            try:
                context, spec = cls.Context(**values), cls.Spec(**kwargs)
            except ValidationError as error:
                raise validation_error(error, cls.__name__) from None
            except SpecValidationError as error:
                raise error.about(cls.__name__) from None
            try:
                block = super().__call__(**dict(context), **{name: getattr(spec, name) for name in cls.options})
            except IncompatibleError as error:
                raise (error if error.subject else error.about(cls.__name__)) from None
            block.spec = spec
            return block

        @property
        def __signature__(cls) -> inspect.Signature:
            """The parameters of `__init__`, which `inspect.signature` and `help` show in place of `__call__`'s."""
            return inspect.Signature(list(_parameters(cls).values()))


class Block(metaclass=BlockType):
    """A part of a model: a torch module whose signature follows the keyword-only rule.

    A *family* is a subclass that declares the contract of `forward`: `class Attention(Block, nn.Module,
    family="attention")`. A block is a subclass of a family with a kind: `class HydraNA(Attention, kind="hydra-na")`. A
    nested `class Spec(Spec)` of a family adds fields to the specs of all its blocks. Arguments are validated before
    `__init__` runs: options have the annotated types, and slots hold specs.
    """

    Spec: ClassVar[type[AnySpec]] = Spec
    Context: ClassVar[type[BaseModel]]
    family: ClassVar[type[Block]]
    family_name: ClassVar[str]
    kind: ClassVar[str | None] = None
    options: ClassVar[tuple[str, ...]] = ()
    stand_in: ClassVar[Callable[[], Any] | None] = None
    """Makes a module that replaces an incompatible block of this family while `collecting` checks the rest."""
    twice_differentiable: ClassVar[bool] = True
    """Whether the block has second derivatives, which gradient penalties need."""
    dead_parameters: ClassVar[tuple[str, ...]] = ()
    """Parameters that can be without effect, such as a bias before batch norm; kept for the state dicts of others."""
    renamed_options: ClassVar[Mapping[str, str]] = {}
    """By former name of an option, its name; specs that have the former name are read."""
    missing_context: ClassVar[Mapping[str, str]] = {}
    """By name of a context value: what an error message says that a block needs where the value is missing."""
    families: ClassVar[dict[str, type[Block]]] = {}
    spec: Any
    slot_path: tuple[str | int, ...] = ()
    """The slot of the surrounding block that this block was built for."""

    def __init_subclass__(cls, *, family: str | None = None, kind: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if family is not None:
            known = Block.families.setdefault(family, cls)
            if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                raise TypeError(f"family {family!r} is declared by {known.__module__} and again by {cls.__module__}")
            Block.families[family] = cls
            cls.family, cls.family_name = cls, family
        if kind is not None:
            if not re.fullmatch(rf"({WORDS}/)?{WORDS}", kind):
                fact = "kinds are lower-case words joined by hyphens, such as spiral or acme/spiral"
                raise TypeError(f"kind {kind!r} of {cls.__name__}: {fact}")
            cls.kind = kind
            _derive_models(cls)

    def fill(self, slot: str, spec: Any, **context: Any) -> Any:
        """Build the block in one of this block's slots; None for an empty slot.

        Args:
            slot: The slot's name in the signature, which becomes part of an error's path.
            spec: The value of the slot: a spec, or None.
            context: Values for the positional parameters of the block in the slot.

        Raises:
            IncompatibleError: The block cannot be built; paths begin with the slot's name.
        """
        return None if spec is None else build_at((slot,), spec, **context)


_collected: list[list[Problem]] = []


class collecting:
    """Context manager that collects problems of blocks with a `stand_in` instead of raising IncompatibleError."""

    def __enter__(self) -> list[Problem]:
        _collected.append([])
        return _collected[-1]

    def __exit__(self, *_: object) -> None:
        _collected.pop()


def build_at(path: tuple[str | int, ...], spec: Spec, **context: Any) -> Any:
    """`spec.build(**context)`, with `path` in front of the path of each problem."""
    marker = len(_collected[-1]) if _collected else 0
    try:
        block = spec.build(**context)
    except IncompatibleError as error:
        stand_in = spec.block.stand_in
        if not _collected or stand_in is None:
            raise IncompatibleError([problem.under(*path) for problem in error.problems]) from None
        _collected[-1].extend(error.problems)
        block = stand_in()
    if _collected:
        _collected[-1][marker:] = [problem.under(*path) for problem in _collected[-1][marker:]]
    block.slot_path = path
    return block


def _parameters(cls: type[Block]) -> dict[str, inspect.Parameter]:
    """The parameters of `__init__` without self; without *args and **kwargs if it is nn.Module's, not a block's."""
    owner = next(each for each in cls.__mro__ if "__init__" in vars(each))
    parameters = list(inspect.signature(cls.__init__).parameters.items())[1:]
    return {name: each for name, each in parameters if issubclass(owner, Block) or each.kind not in VARIADIC}


def _derive_models(cls: type[Block]) -> None:
    hints = typing.get_type_hints(cls.__init__, include_extras=True)
    docs = parse_docstring(cls.__doc__)[1]
    context: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, parameter in _parameters(cls).items():
        if parameter.kind in VARIADIC:
            raise TypeError(f"{cls.__name__}.__init__ has *{name}; declare each option by name")
        if name not in hints:
            raise TypeError(f"{cls.__name__}.__init__: {name} has no annotation, and the schema is derived from it")
        if name in ("kind", "block") or name in cls.family.Spec.model_fields:
            raise TypeError(f"{cls.__name__}.__init__: {name} is a field of every {cls.family_name} spec")
        default = ... if parameter.default is parameter.empty else parameter.default
        target = options if parameter.kind is parameter.KEYWORD_ONLY else context
        target[name] = (hints[name], Field(default, description=docs[name]) if name in docs else default)
    if strangers := {*cls.renamed_options.values()} - {*options} | {*cls.renamed_options} & {*options}:
        raise TypeError(
            f"{cls.__name__}.renamed_options: {', '.join(sorted(strangers))}; it maps former names to options"
        )
    own: dict[str, Any] = {"__module__": cls.__module__, "__doc__": cls.__doc__}
    cls.options = tuple(options)
    any_types = ConfigDict(arbitrary_types_allowed=True, extra="forbid")
    cls.Context = create_model("Context", __config__=any_types, **own, **context)
    options["kind"] = (Annotated[Literal[cls.kind], WrapValidator(_kind), PlainSerializer(str)], cls.kind)
    try:
        cls.Spec = create_model("Spec", __base__=cls.family.Spec, **own, **options)
    except PydanticSchemaGenerationError as error:
        fact, cure = error.message.partition(". ")[0], "an option is a number, a text, a list of them or a Slot"
        raise TypeError(f"{cls.__name__}.__init__: {fact}; {cure}") from None
    for model in (cls.Context, cls.Spec):
        model.__qualname__ = f"{cls.__qualname__}.{model.__name__}"  # pickle looks the model up there
    cls.Spec.block = cls


def _renamed(names: Mapping[str, str], data: Any) -> tuple[Any, list[Problem]]:
    """Data with the present names of options, and the problem of each option that it has by both names."""
    if not names or not isinstance(data, Mapping):
        return data, []
    twice = [old for old, new in names.items() if old in data and new in data]
    problems = [Problem((old,), f"is the former name of {names[old]}, which is set too; omit {old}") for old in twice]
    return {names.get(name, name): value for name, value in data.items()}, problems


def _kind(value: Any, handler: Any) -> Any:
    """A block's kind, `spiral` or `acme/spiral`, which may have its package in front: `acme-blocks/spiral`."""
    try:
        return handler(value)
    except ValidationError:
        kind = value.partition("/")[2] if isinstance(value, str) else ""
        if not kind:
            raise
    handler(kind)
    return value

"""The rule of the star: one signature is a block's wiring, its spec, its schema and its documentation.

What stands before the star of `__init__` is *wiring*, fixed by a block's neighbours; what stands after it is the
block's *spec*, chosen by its user. `Block` derives from them two pydantic models, once, when the class is defined.
"""

from __future__ import annotations

import inspect
import re
import typing
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from registry.errors import IncompatibleError, Problem, SpecValidationError, incompatible
from registry.messages import in_plain_words, validation_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import ModelWrapValidatorHandler


class Spec(BaseModel):
    """What a user chooses of a block: frozen data that reads from and writes to Python, YAML and JSON alike."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())

    block: ClassVar[type[Block]]
    kind: str

    if TYPE_CHECKING:  # fields come from signatures

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, /, **options: Any) -> None:
        try:
            super().__init__(**options)
        except ValidationError as error:
            raise validation_error(error, type(self).__qualname__) from None

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # else nested specs would pass through it too

    def build(self, **context: Any) -> Any:
        """The block that this spec describes, given of `wiring` what the block asks for by name.

        Raises:
            IncompatibleError: The block needs wiring that is not offered, or does not fit what it got.
        """
        fields = self.block.Context.model_fields
        missing = [name for name, field in fields.items() if field.is_required() and context.get(name) is None]
        if missing:
            offered = ", ".join(sorted(name for name, value in context.items() if value is not None)) or "nothing"
            raise incompatible(
                (), f"{self.kind} needs {' and '.join(missing)}, which this place does not have ({offered})"
            )
        return self.block(**{name: context[name] for name in fields if name in context}, **dict(self))

    def to_dict(self) -> dict[str, Any]:
        """The spec in full as plain JSON data; `to_dict` and validation are exact inverses."""
        return self.model_dump(mode="json")

    @model_validator(mode="wrap")
    @classmethod
    def _plain_errors(cls, data: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
        try:
            return handler(data)
        except ValidationError as error:
            raise in_plain_words(cls, error) from None

    def __repr_name__(self) -> str:
        return type(self).__qualname__

    def __str__(self) -> str:
        return repr(self)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Only what differs from the defaults, so that a long list of blocks stays readable."""
        fields = type(self).model_fields
        required = {name: getattr(self, name) for name, field in fields.items() if field.is_required()}
        plain = type(self)(**required)  # a default may be written shorter than its value: a bare kind, 4 for (4, 4)
        for name, field in fields.items():
            if field.is_required() or getattr(self, name) != getattr(plain, name):
                yield name, getattr(self, name)


AnySpec: TypeAlias = Spec  # inside `Block` the name Spec means the block's own


class BlockType(type):
    """Checks a block's arguments against its signature, however the block is made; see `Block`."""

    if not TYPE_CHECKING:  # type checkers shall see the signature of `__init__`

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            if cls.kind is None:
                return super().__call__(*args, **kwargs)
            names = list(cls.Context.model_fields)
            if len(args) > len(names):
                raise TypeError(
                    f"{cls.__name__} takes {len(names)} positional arguments ({', '.join(names)}), not {len(args)}"
                )
            given = dict(zip(names, args, strict=False))
            given |= {name: kwargs.pop(name) for name in names if name in kwargs}
            try:
                context, spec = cls.Context(**given), cls.Spec(**kwargs)
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


class Block(metaclass=BlockType):
    """A piece of a model: an ordinary torch module whose signature follows the rule of the star.

    A *family* is a subclass that states a contract (`class Attention(Block, nn.Module, family="attention")`); a block
    is a subclass of a family that has a kind (`class HydraNA(Attention, kind="hydra-na")`). A family may give its specs
    more fields by a nested `class Spec(Spec)`. However a block is made, its arguments are validated: options arrive in
    `__init__` as the annotations promise, slots as specs.
    """

    Spec: ClassVar[type[AnySpec]] = Spec
    Context: ClassVar[type[BaseModel]]
    family: ClassVar[type[Block]]
    family_name: ClassVar[str]
    kind: ClassVar[str | None] = None
    options: ClassVar[tuple[str, ...]] = ()
    stand_in: ClassVar[Callable[[], Any] | None] = None  # what may replace a misfit while the rest is being checked
    twice_differentiable: ClassVar[bool] = True  # whether it has second derivatives, which gradient penalties need
    families: ClassVar[dict[str, type[Block]]] = {}
    spec: Any

    def __init_subclass__(cls, *, family: str | None = None, kind: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if family is not None:
            known = Block.families.setdefault(family, cls)
            if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                raise TypeError(f"family {family!r} is declared by {known.__module__} and again by {cls.__module__}")
            Block.families[family] = cls
            cls.family, cls.family_name = cls, family
        if kind is not None:
            if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", kind):
                raise TypeError(f"kind {kind!r} of {cls.__name__}: kinds are lower-case words joined by hyphens")
            cls.kind = kind
            _derive_models(cls)

    def fill(self, slot: str, spec: Any, **context: Any) -> Any:
        """The block for one of this block's slots, built from `spec`; None for an empty slot.

        Args:
            slot: The slot's name in the signature, which becomes part of an error's path.
            spec: What the slot holds: a spec, or None.
            wiring: Everything this block can tell its parts; each takes what it asks for.

        Raises:
            IncompatibleError: With the slot's name in front of each path.
        """
        return None if spec is None else build_at((slot,), spec, **context)


_collected: list[list[Problem]] = []


class collecting:
    """While this is open, a misfit inside a slot of a shape-keeping family is written down instead of raised."""

    def __enter__(self) -> list[Problem]:
        _collected.append([])
        return _collected[-1]

    def __exit__(self, *_: object) -> None:
        _collected.pop()


def build_at(path: tuple[str | int, ...], spec: Spec, **context: Any) -> Any:
    """`spec.build(**wiring)`, with `path` put in front of what does not fit."""
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
    return block


def _derive_models(cls: type[Block]) -> None:
    hints = typing.get_type_hints(cls.__init__, include_extras=True)
    docs = parse_docstring(cls.__doc__)[1]
    context: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(cls.__init__).parameters.items())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{cls.__name__}.__init__ has *{name}: a block names each of its options")
        if name not in hints:
            raise TypeError(f"{cls.__name__}.__init__: {name} has no annotation; its type is its schema")
        if name in ("kind", "block") or name in cls.family.Spec.model_fields:
            raise TypeError(f"{cls.__name__}.__init__: {name} is taken by every {cls.family_name} spec")
        default = ... if parameter.default is parameter.empty else parameter.default
        target = options if parameter.kind is parameter.KEYWORD_ONLY else context
        target[name] = (hints[name], Field(default, description=docs[name]) if name in docs else default)
    own: dict[str, Any] = {"__module__": cls.__module__, "__doc__": cls.__doc__}
    cls.options = tuple(options)
    cls.Context = create_model(
        "Context", __config__=ConfigDict(arbitrary_types_allowed=True, extra="forbid"), **own, **context
    )
    options["kind"] = (Literal[cls.kind], cls.kind)
    cls.Spec = create_model("Spec", __base__=cls.family.Spec, **own, **options)
    for model in (cls.Context, cls.Spec):
        model.__qualname__ = f"{cls.__qualname__}.{model.__name__}"  # pickle finds the model through its block
    cls.Spec.block = cls


def parse_docstring(text: str | None) -> tuple[str, dict[str, str]]:
    """Summary line and argument descriptions of a Google-style docstring."""
    lines = inspect.cleandoc(text or "").splitlines()
    summary = lines[0].strip() if lines else ""
    described: dict[str, str] = {}
    current = None
    for line in lines[lines.index("Args:") + 1 :] if "Args:" in lines else []:
        if line and not line.startswith(" "):
            break
        if match := re.match(r" {4}(\w+):\s*(.*)", line):
            current = match[1]
            described[current] = match[2]
        elif current and line.strip():
            described[current] += " " + line.strip()
    return summary, described

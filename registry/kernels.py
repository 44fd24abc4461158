"""An op is a computation with one reference kernel, written to be read, and any number of faster ones.

Each kernel says why it cannot serve a call; the chooser takes the first that can, by priority. Fused kernels often have
no second derivative, and gradient penalties need one: under `second_order()` such kernels are refused, never used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from registry.catalogue import catalogue
from registry.errors import incompatible, nearest
from registry.tuning import Choices, measurable, signature

MODES = ("auto", "tune")


class KernelError(RuntimeError):
    """No kernel of an op, or not the one asked for, can serve a call; the message has every reason."""


class Kernel:
    """One way to compute an op.

    Subclasses set `op`, `name` and `priority` (the highest supported wins; references have 0), say in `second_order`
    whether their gradient can be differentiated again, and implement `run`. `unsupported` is called in `forward` and
    traced by torch.compile: it compares shapes, dtypes and devices and does nothing else. What needs a look at the
    machine (is the library there, is it compiled?) belongs in `unavailable`, asked once, when a block is built.
    """

    op: ClassVar[str]
    name: ClassVar[str]
    priority: ClassVar[int] = 0
    second_order: ClassVar[bool] = False
    counted: ClassVar[bool] = False
    """Whether what it multiplies is what the op needs, and a counter of operations sees it: `counting` runs it then."""
    library: ClassVar[str | None] = None
    """The distribution that computes, if it is another's; its version is part of what a measured choice holds for."""
    enable: ClassVar[str | None] = None
    """The command that makes an unavailable kernel available, for `ganblocks doctor`."""

    def unavailable(self) -> str | None:
        """Why this kernel cannot run on this machine at all; None when it can."""
        return None

    def unsupported(self, *args: Any, **kwargs: Any) -> list[str]:
        """Why this kernel cannot serve this call; an empty list when it can."""
        return []

    def run(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"kernel {self.name} of {self.op} has no run")

    def __repr__(self) -> str:
        return f"<kernel {self.name} of {self.op}>"


class Op:
    """A named computation with its kernels.

    Args:
        name: What kernels call it in their `op`.
        reference: The kernel that every other one has to agree with.
        kernels: More kernels of the same package; plugins add theirs through `register_kernels`.
    """

    ops: ClassVar[dict[str, Op]] = {}

    def __init__(self, name: str, reference: Kernel, *kernels: Kernel) -> None:
        self.name = name
        self.reference = reference
        self._own = (reference, *kernels)
        Op.ops[name] = self

    def kernels(self) -> list[Kernel]:
        """All kernels, the preferred first, the reference last."""
        return sorted([*self._own, *catalogue.kernels(self.name)], key=lambda kernel: -kernel.priority)

    def bind(self, kernel: str = "auto") -> BoundOp:
        """The op as a function, its kernels looked up now and chosen at each call.

        Args:
            kernel: "auto" takes the preferred kernel that can serve a call. "tune" takes the quickest: it is measured
                when a call of its shapes, dtypes and devices is first seen, and remembered for this machine and its
                libraries. A kernel's name takes that kernel or none.

        Raises:
            IncompatibleError: No kernel has this name, or the named one cannot run on this machine.
        """
        return BoundOp(self, kernel)

    def __call__(self, *args: Any, kernel: str = "auto", **kwargs: Any) -> Any:
        return self.bind(kernel)(*args, **kwargs)


class BoundOp:
    """An op with its kernels at hand; calling it computes. Made in `__init__`, called in `forward`, safe to compile."""

    def __init__(self, op: Op, kernel: str) -> None:
        known = op.kernels()
        chosen = known if kernel in MODES else [candidate for candidate in known if candidate.name == kernel]
        if not chosen:
            names = [*MODES, *(candidate.name for candidate in known)]
            raise incompatible("kernel", f"{op.name} has no kernel {kernel!r}; {nearest(kernel, names)}")
        if kernel not in MODES and (reason := chosen[0].unavailable()):
            raise incompatible("kernel", f"kernel {kernel!r} cannot run here: {reason}; take 'auto' or 'reference'")
        self.op = op
        self.kernel = kernel
        self.candidates = tuple(candidate for candidate in chosen if candidate.unavailable() is None)
        self.choices = Choices({each.library for each in known if each.library}) if kernel == "tune" else None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _references:
            return self.op.reference.run(*args, **kwargs)
        if _countings:
            counted = next((kernel for kernel in self.op.kernels() if kernel.counted), self.op.reference)
            return counted.run(*args, **kwargs)
        if self.choices is not None:
            return self._tuned(self.choices, args, kwargs)
        for kernel in self.candidates:
            if (_penalties and not kernel.second_order) or kernel.unsupported(*args, **kwargs):
                continue
            if _recordings:
                _recordings[-1].append((self.op.name, kernel.name))
            return kernel.run(*args, **kwargs)
        raise KernelError(self.explain(*args, **kwargs))

    def _tuned(self, choices: Choices, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The quickest kernel of those that can; while torch.compile traces, the one remembered, or the preferred."""
        able = [
            kernel
            for kernel in self.candidates
            if not ((_penalties and not kernel.second_order) or kernel.unsupported(*args, **kwargs))
        ]
        if not able:
            raise KernelError(self.explain(*args, **kwargs))
        chosen = able[0]
        if len(able) > 1:
            asked = signature(self.op.name, [kernel.name for kernel in able], bool(_penalties), args, kwargs)
            remembered = choices.kernels.get(asked)
            if remembered is not None:
                chosen = next(kernel for kernel in able if kernel.name == remembered)
            elif measurable(args):
                heard = _recordings[:]
                _recordings.clear()  # what only measures is no call of the model's
                try:
                    chosen = choices.choose(asked, able, bool(_penalties), args, kwargs)
                finally:
                    _recordings[:] = heard
        if _recordings:
            _recordings[-1].append((self.op.name, chosen.name))
        return chosen.run(*args, **kwargs)

    def explain(self, *args: Any, **kwargs: Any) -> str:
        """Every kernel's reasons against a call."""
        lines = [f"no kernel of {self.op.name} can serve this call (asked for: {self.kernel})"]
        for kernel in self.candidates:
            reasons = list(kernel.unsupported(*args, **kwargs))
            if _penalties and not kernel.second_order:
                reasons.append("has no second derivative, and a gradient penalty needs one")
            lines.append(f"  {kernel.name}: {'; '.join(reasons) or 'can'}")
        return "\n".join(lines)

    def __deepcopy__(self, _memo: Any) -> BoundOp:
        return self

    def __reduce__(self) -> tuple[Callable[..., BoundOp], tuple[str, str]]:
        return _rebind, (self.op.name, self.kernel)

    def __repr__(self) -> str:
        return f"{self.op.name}[{self.kernel}]"


def _rebind(op: str, kernel: str) -> BoundOp:
    return Op.ops[op].bind(kernel)


# Plain lists, since torch.compile guards on their length; context variables it cannot trace.
_penalties: list[None] = []
_recordings: list[list[tuple[str, str]]] = []
_references: list[None] = []
_countings: list[None] = []


@contextmanager
def second_order() -> Iterator[None]:
    """While open, only kernels whose gradient can be differentiated again are chosen."""
    _penalties.append(None)
    try:
        yield
    finally:
        _penalties.pop()


def wants_second_order() -> bool:
    """Whether second derivatives are asked for: for blocks that call another library instead of an op."""
    return bool(_penalties)


@contextmanager
def reference_kernels() -> Iterator[None]:
    """While open, only reference kernels run: for comparing."""
    _references.append(None)
    try:
        yield
    finally:
        _references.pop()


@contextmanager
def counting() -> Iterator[None]:
    """While open, kernels run whose operations a counter sees: the reference, or one that multiplies fewer zeros."""
    _countings.append(None)
    try:
        yield
    finally:
        _countings.pop()


@contextmanager
def recording() -> Iterator[list[tuple[str, str]]]:
    """While open, the list it gives grows by (op, kernel) for each call."""
    _recordings.append([])
    try:
        yield _recordings[-1]
    finally:
        _recordings.pop()

"""Ops and kernels. An op is a computation with one readable reference kernel and any number of faster kernels.

A call runs the kernel of highest priority that supports it; each kernel lists its reasons against a call. Fused kernels
often have no second derivative, which gradient penalties need: inside `second_order()` such kernels are not used. Most
have no forward-mode derivative either: inside the transforms of `torch.func` (grad, vmap, jvp, ...) and
`torch.autograd.forward_ad.dual_level` only kernels that have one run, because these consist of PyTorch's operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

from registry.catalogue import catalogue
from registry.errors import incompatible, nearest
from registry.tuning import Choices, measurable, signature

MODES = ("auto", "tune")


class KernelError(RuntimeError):
    """No kernel of an op, or not the selected one, supports a call; the message lists all reasons."""


class Kernel:
    """One implementation of an op. Subclasses set the class variables and implement `run`.

    `unsupported` runs in `forward` and is traced by torch.compile, so it only compares shapes, dtypes and devices.
    Checks of the machine, such as whether a library is installed and compiled, belong in `unavailable`, which runs once
    when a block is built.
    """

    op: ClassVar[str]
    """Name of the op."""
    name: ClassVar[str]
    """Name of the kernel, unique within the op."""
    priority: ClassVar[int] = 0
    """The available kernel of highest priority that supports a call runs; reference kernels have 0."""
    second_order: ClassVar[bool] = False
    """Whether the gradient can be differentiated again."""
    forward_ad: ClassVar[bool] = False
    """Whether the transforms of `torch.func` and dual tensors can differentiate it."""
    counted: ClassVar[bool] = False
    """Whether a counter of torch operations gets the number of multiplications that the op needs; see `counting`."""
    portable: ClassVar[bool] = False
    """Whether exported programs contain it in place of the reference kernel; see `portable_kernels`."""
    compiles: ClassVar[bool] = False
    """Whether `unavailable` compiles code. It then runs at the first call that the kernel supports."""
    library: ClassVar[str | None] = None
    """The distribution that computes, if it is not this project; a measured choice is valid for one version of it."""
    enable: ClassVar[str | None] = None
    """The command that makes an unavailable kernel available, for `ganblocks doctor`."""

    def unavailable(self) -> str | None:
        """Why this kernel cannot run on this machine; None if it can."""
        return None

    def unsupported(self, *args: Any, **kwargs: Any) -> list[str]:
        """The reasons against a call; empty if the kernel supports it."""
        return []

    def drawbacks(self, *args: Any, **kwargs: Any) -> list[str]:
        """Why another kernel is probably faster for a supported call, by measurement on common hardware.

        With `kernel="auto"` a kernel with drawbacks runs only if every kernel that supports the call has some. A named
        kernel runs anyway, and "tune" measures it like the others.
        """
        return []

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the op."""
        raise NotImplementedError(f"kernel {self.name} of {self.op} has no run")

    def __repr__(self) -> str:
        return f"<kernel {self.name} of {self.op}>"


class Op:
    """A named computation with its kernels.

    Args:
        name: The name; kernels refer to it in `Kernel.op`.
        reference: The kernel that defines the result; the others are tested against it.
        kernels: More kernels of the same package. Plugins add theirs by the hook `register_kernels`.
    """

    ops: ClassVar[dict[str, Op]] = {}

    def __init__(self, name: str, reference: Kernel, *kernels: Kernel) -> None:
        self.name = name
        self.reference = reference
        self._own = (reference, *kernels)
        Op.ops[name] = self

    def kernels(self) -> list[Kernel]:
        """All kernels by descending priority."""
        return sorted([*self._own, *catalogue.kernels(self.name)], key=lambda kernel: -kernel.priority)

    def bind(self, kernel: str = "auto") -> BoundOp:
        """The op as a function. Its kernels are looked up now; one of them is selected at each call.

        Args:
            kernel: "auto" selects the kernel of highest priority that supports the call. "tune" selects the fastest
                one, measured at the first call with these shapes, dtypes and devices and cached on disk for this
                machine and these library versions. A kernel's name selects that kernel.

        Raises:
            IncompatibleError: No kernel has this name, or the named one cannot run on this machine.
        """
        return BoundOp(self, kernel)

    def __call__(self, *args: Any, kernel: str = "auto", **kwargs: Any) -> Any:
        return self.bind(kernel)(*args, **kwargs)


def is_transformed() -> bool:
    """Whether a transform of `torch.func` (grad, vmap, jvp, ...) or `dual_level` is open."""
    import torch  # here, since the registry is imported without torch

    dual_numbers = torch.autograd.forward_ad._current_level >= 0
    return dual_numbers or bool(torch._C._are_functorch_transforms_active())


class BoundOp:
    """An op with its kernels looked up. Make it in `__init__` and call it in `forward`; torch.compile can trace it."""

    def __init__(self, op: Op, kernel: str) -> None:
        kernels = op.kernels()
        selected = kernels if kernel in MODES else [each for each in kernels if each.name == kernel]
        if not selected:
            names = [*MODES, *(each.name for each in kernels)]
            raise incompatible(
                "kernel", f"{op.name} has no kernel {kernel!r}; {nearest(kernel, names)}{catalogue.failed()}"
            )
        if kernel not in MODES and (reason := selected[0].unavailable()):
            raise incompatible("kernel", f"kernel {kernel!r} cannot run here: {reason}; take 'auto' or 'reference'")
        self.op = op
        self.kernel = kernel
        self.candidates = tuple(each for each in selected if each.compiles or each.unavailable() is None)
        _compiling.update({(op.name, each.name): each for each in selected if each.compiles})
        self.choices = Choices({each.library for each in kernels if each.library}) if kernel == "tune" else None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _references:
            return self.op.reference.run(*args, **kwargs)
        if _exports:
            kernel = next((each for each in self.op.kernels() if each.portable), self.op.reference)
            return kernel.run(*args, **kwargs)
        if _countings:
            kernel = next((each for each in self.op.kernels() if each.counted), self.op.reference)
            return kernel.run(*args, **kwargs)
        selected = self._selected(args, kwargs) if self.choices is None else self._fastest(self.choices, args, kwargs)
        if selected is None:
            raise KernelError(self.explain(*args, **kwargs))
        if _recordings:
            _recordings[-1].append((self.op.name, selected.name))
        return selected.run(*args, **kwargs)

    def _selected(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Kernel | None:
        """The kernel of highest priority that supports the call, preferably one without drawbacks."""
        with_drawbacks = []
        for kernel in self.candidates:
            if self._supports(kernel, args, kwargs):
                if len(self.candidates) > 1 and kernel.drawbacks(*args, **kwargs):
                    with_drawbacks.append(kernel)
                elif self._available(kernel):
                    return kernel
        return next((kernel for kernel in with_drawbacks if self._available(kernel)), None)

    def _available(self, kernel: Kernel) -> bool:
        """Whether a candidate runs on this machine; compiles it if needed."""
        return not kernel.compiles or _compiled_here(self.op.name, kernel.name)

    def _fastest(self, choices: Choices, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Kernel | None:
        """The fastest kernel that supports the call.

        While torch.compile traces nothing is measured: it is the cached choice, or the kernel of highest priority.
        """
        supported = [kernel for kernel in self.candidates if self._supports(kernel, args, kwargs)]
        supporting = [kernel for kernel in supported if self._available(kernel)]
        if not supporting:
            return None
        selected = next((kernel for kernel in supporting if not kernel.drawbacks(*args, **kwargs)), supporting[0])
        if len(supporting) > 1 and not is_transformed():
            key = signature(self.op.name, [kernel.name for kernel in supporting], bool(_penalties), args, kwargs)
            cached = choices.kernels.get(key)
            if cached is not None:
                selected = next(kernel for kernel in supporting if kernel.name == cached)
            elif measurable(args):
                recordings = _recordings[:]
                _recordings.clear()  # a measurement is not a call of the model
                try:
                    selected = choices.choose(key, supporting, bool(_penalties), args, kwargs)
                finally:
                    _recordings[:] = recordings
        return selected

    def explain(self, *args: Any, **kwargs: Any) -> str:
        """Every kernel's reasons against a call."""
        lines = [f"no kernel of {self.op.name} supports this call (kernel={self.kernel!r})"]
        for kernel in self.candidates:
            reasons = list(kernel.unsupported(*args, **kwargs))
            if _penalties and not kernel.second_order:
                reasons.append("has no second derivative, and a gradient penalty needs one")
            if is_transformed() and not kernel.forward_ad:
                reasons.append("has no forward-mode derivative, which torch.func and dual tensors need")
            if not reasons and (reason := kernel.unavailable()):
                reasons.append(reason)
            lines.append(f"  {kernel.name}: {'; '.join(reasons) or 'supports it'}")
        return "\n".join(lines)

    def _supports(self, kernel: Kernel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        if (_penalties and not kernel.second_order) or (not kernel.forward_ad and is_transformed()):
            return False
        return not kernel.unsupported(*args, **kwargs)

    def __deepcopy__(self, _memo: Any) -> BoundOp:
        return self

    def __reduce__(self) -> tuple[Callable[..., BoundOp], tuple[str, str]]:
        return _rebind, (self.op.name, self.kernel)

    def __repr__(self) -> str:
        return f"{self.op.name}[{self.kernel}]"


def _compiled_here(op: str, kernel: str) -> bool:
    """Whether a kernel with `compiles` can run. Its arguments are strings, so that torch.compile can evaluate it."""
    return _compiling[op, kernel].unavailable() is None


# as torch.compiler.assume_constant_result, which imports torch._dynamo: a second
_compiled_here._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _rebind(op: str, kernel: str) -> BoundOp:
    return Op.ops[op].bind(kernel)


# Lists, because torch.compile guards on their length and cannot trace context variables.
_penalties: list[None] = []
_recordings: list[list[tuple[str, str]]] = []
_references: list[None] = []
_countings: list[None] = []
_exports: list[None] = []
_compiling: dict[tuple[str, str], Kernel] = {}


@contextmanager
def _appended(modes: list[Any], value: Any = None) -> Iterator[Any]:
    modes.append(value)
    try:
        yield value
    finally:
        modes.pop()


def second_order() -> AbstractContextManager[None]:
    """Context manager: only kernels whose gradient can be differentiated again run."""
    return _appended(_penalties)


def wants_second_order() -> bool:
    """Whether `second_order` is open; for blocks that call a library instead of an op."""
    return bool(_penalties)


def reference_kernels() -> AbstractContextManager[None]:
    """Context manager: only reference kernels run."""
    return _appended(_references)


def portable_kernels() -> AbstractContextManager[None]:
    """Context manager for exports: only kernels run that are plain PyTorch operations and serve every batch size."""
    return _appended(_exports)


def counting() -> AbstractContextManager[None]:
    """Context manager for counting multiplications: kernels with `counted` run, otherwise the reference kernel."""
    return _appended(_countings)


def recording() -> AbstractContextManager[list[tuple[str, str]]]:
    """Context manager: returns a list that gets a pair (op, kernel) for each call."""
    return _appended(_recordings, [])

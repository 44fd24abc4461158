"""Converts a network of a published checkpoint: reads the file, recognises the layout and translates the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from assemblies.conversion.importer import Conversion, MissingOptionError
from assemblies.conversion.weight_map import translate
from assemblies.generator import Generator
from assemblies.model_file import CheckpointError, save_tensors
from assemblies.unpickling.contents import Contents, contents_of
from assemblies.unpickling.files import read_file
from registry import CheckpointImporter, IncompatibleError, Problem, Spec, SpecError, catalogue
from registry.errors import nearest
from registry.text import counted, excerpt

ROLES = ("G_ema", "G", "D")
MAX_SHARING = 4


class Imported(NamedTuple):
    """A converted network.

    Args:
        spec: The network.
        state: Its state dict.
        context: A discriminator's context: resolution, image_channels, cond_dim.
        form: The layout that was recognised.
        role: Role of the network in the file: G_ema, G or D.
        layout: How the file stores it.
        notes: Remarks for the user.
    """

    spec: Spec
    state: dict[str, Tensor]
    context: Mapping[str, Any]
    form: str
    role: str
    layout: str
    notes: tuple[str, ...]

    @property
    def value_range(self) -> str | None:
        """Range of a generator's images; None for a discriminator."""
        return self.spec.value_range if issubclass(self.spec.block, Generator) else None

    def save(self, path: str | Path, extra: dict[str, Any] | None = None) -> None:
        """Write it as a model file; an interrupted write leaves no partial file."""
        metadata = {"context": dict(self.context)} if self.context else {"value_range": self.value_range}
        save_tensors(path, self.spec, self.state, metadata, extra)

    def build(self) -> nn.Module:
        """The network, in eval mode."""
        network: nn.Module = self.spec.build(**self.context)
        network.load_state_dict(self.state)
        return network.eval()


def import_network(path: str | Path, role: str | None = None, options: Mapping[str, Any] | None = None) -> Imported:
    """Convert a network of a file that another library wrote. Nothing in the file is run.

    Args:
        path: A file of torch.save, a pickle, or a .safetensors file.
        role: Role of the network in a file of several: G_ema, G or D; by default the first of these that it has.
        options: Options of the layout that the file lacks or has wrong.

    Raises:
        RefusedError: The file would run code.
        CheckpointError: It cannot be read, its layout is unknown, or an option is missing.
        SpecError: Its tensors do not match the network that it describes; all of them are listed.
    """
    try:
        contents = contents_of(read_file(path), str(path))
    except RecursionError:
        raise CheckpointError(f"{path} is not a checkpoint: its objects are nested without end") from None
    role, importer = choose(contents, role, str(path))
    tensors, args = contents.networks[role]
    role = role or importer.roles[0]
    subject = f"{path} ({importer.form})"
    conversion, state = _convert(importer, tensors, args, options or {}, subject)
    notes = list(conversion.notes)
    if names := [name for name, value in state.items() if not value.isfinite().all()]:
        notes.append(f"{len(names)} tensors have values that are not finite, first {names[0]}: the training diverged")
    return Imported(conversion.spec, state, conversion.context, importer.form, role, contents.layout, tuple(notes))


def _convert(
    importer: CheckpointImporter,
    tensors: Mapping[str, Tensor],
    args: Mapping[str, Any],
    options: Mapping[str, Any],
    subject: str,
) -> tuple[Conversion, dict[str, Tensor]]:
    """The conversion of a network's tensors, and the state dict of ours."""
    if unknown := [name for name in options if name not in importer.options]:
        fact = f"has no option {unknown[0]}; {nearest(unknown[0], list(importer.options))}"
        raise CheckpointError(f"{subject} {fact}")
    _check_sharing(tensors, subject)
    try:
        conversion: Conversion = importer.conversion(tensors, dict(args) | dict(options))
        with torch.device("meta"):
            network = conversion.spec.build(**conversion.context)
        translated = translate(
            conversion.rules, conversion.tensors, network, ignored=conversion.ignored, subject=subject
        )
        expected = network.state_dict()
        _check_dtypes(translated, expected, subject)
        state = {name: value.detach().to(expected[name].dtype).clone() for name, value in translated.items()}
    except SpecError as error:
        raise error.about(subject) from None
    except MissingOptionError as error:
        raise CheckpointError(f"{subject}: {error}") from None
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(f"{subject} lacks {error}: incomplete, or another version of this layout") from None
    except Exception as error:  # an importer computes with the shapes and options of the file
        reason = f"{type(error).__name__}: {excerpt(error)}"
        if options:
            settings = excerpt(", ".join(f"{name}={value}" for name, value in options.items()))
            raise CheckpointError(f"{subject} cannot be converted with {settings}; check them ({reason})") from None
        raise CheckpointError(f"{subject} is damaged, or another version of this layout ({reason})") from None
    return conversion, state


def _check_sharing(tensors: Mapping[str, Tensor], subject: str) -> None:
    """Refuse many large tensors that are views of few numbers: copies of them would fill the memory."""
    total = sum(value.nbytes for value in tensors.values())
    stored = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in tensors.values()}
    if total > MAX_SHARING * sum(stored.values()) + 2**20:
        raise CheckpointError(f"{subject} has tensors of {total:,} bytes that share {sum(stored.values()):,} bytes")


def _check_dtypes(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], subject: str) -> None:
    problems = [
        Problem((name,), f"has dtype {value.dtype}, not floating point")
        for name, value in state.items()
        if expected[name].is_floating_point() and not value.is_floating_point()
    ]
    if problems:
        raise IncompatibleError(problems, subject)


def choose(contents: Contents, role: str | None, subject: str) -> tuple[str, CheckpointImporter]:
    """The role of the network to convert, and its importer.

    Raises:
        CheckpointError: The file has no such network, or its layout is unknown.
    """
    networks = contents.networks
    if "" in networks:
        importer = form_of(networks[""].tensors, subject)
        if role is not None and role not in importer.roles:
            raise CheckpointError(f"{subject} is a {importer.form}, not {role}")
        return "", importer
    chosen = role or next(role for role in ROLES if role in networks)
    if chosen not in networks:
        raise CheckpointError(f"{subject} contains {', '.join(networks)}, but no {chosen}")
    importer = form_of(networks[chosen].tensors, f"{chosen} in {subject}")
    return chosen, importer


def form_of(tensors: Mapping[str, Tensor], subject: str) -> CheckpointImporter:
    """The importer that recognises these tensors.

    Raises:
        CheckpointError: There is none.
    """
    names = frozenset(tensors)
    for importer in catalogue.importers():
        if importer.recognises(names):
            return importer
    for part, reason in UNSUPPORTED.items():
        if any(part in name for name in names):
            raise CheckpointError(f"{subject} cannot be converted: {reason}")
    some = ", ".join(excerpt(name) for name in sorted(names)[:4])
    raise CheckpointError(
        f"{subject} has an unknown layout ({counted(len(names), 'tensor')}: {some} ...); known layouts: "
        + ", ".join(importer.form for importer in catalogue.importers())
        + catalogue.failed()
    )


UNSUPPORTED = {
    "synthesis.L": "it is a StyleGAN3 generator, and no block here has its alias-free layers",
    "superres": "it is a generator with superresolution, as StyleGAN-XL's and EG3D's, for which there is no block here",
}

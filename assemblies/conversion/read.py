"""Converts a network of a published checkpoint: reads the file, recognises the layout and translates the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from assemblies.conversion.importer import MissingOptionError
from assemblies.conversion.weight_map import translate
from assemblies.generator import Generator
from assemblies.model_file import CheckpointError, save_tensors
from assemblies.unpickling.contents import Contents, contents_of
from assemblies.unpickling.files import read_file
from registry import CheckpointImporter, Spec, SpecError, catalogue
from registry.errors import nearest

ROLES = ("G_ema", "G", "D")


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
    if unknown := [name for name in options or {} if name not in importer.options]:
        fact = f"has no option {unknown[0]}; {nearest(unknown[0], list(importer.options))}"
        raise CheckpointError(f"{subject} {fact}")
    try:
        conversion = importer.conversion(tensors, dict(args) | dict(options or {}))
        with torch.device("meta"):
            network = conversion.spec.build(**conversion.context)
        state = translate(conversion.rules, conversion.tensors, network, ignored=conversion.ignored, subject=subject)
    except SpecError as error:
        raise error.about(subject) from None
    except MissingOptionError as error:
        raise CheckpointError(f"{subject}: {error}") from None
    except KeyError as error:
        raise CheckpointError(f"{subject} lacks {error}: incomplete, or another version of this layout") from None
    expected = network.state_dict()
    state = {name: value.detach().to(expected[name].dtype).clone() for name, value in state.items()}
    notes = list(conversion.notes)
    if names := [name for name, value in state.items() if not value.isfinite().all()]:
        notes.append(f"{len(names)} tensors have values that are not finite, first {names[0]}: the training diverged")
    return Imported(conversion.spec, state, conversion.context, importer.form, role, contents.layout, tuple(notes))


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
    some = ", ".join(sorted(names)[:4])
    raise CheckpointError(
        f"{subject} has an unknown layout ({len(names)} tensors: {some} ...); known layouts: "
        + ", ".join(importer.form for importer in catalogue.importers())
    )


UNSUPPORTED = {
    "synthesis.L": "it is a StyleGAN3 generator, and no block here has its alias-free layers",
    "superres": "it is a generator with superresolution, as StyleGAN-XL's and EG3D's, for which there is no block here",
}

"""A published checkpoint as one of our networks: file, networks in it, form, and the translation of all its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from assemblies.conversion.importer import Importer, Lacking
from assemblies.conversion.weight_map import translate
from assemblies.generator import Generator
from assemblies.model_file import CheckpointError, save_tensors
from assemblies.models.styleformer import checkpoint as styleformer_files
from assemblies.models.stylegan2 import checkpoint as stylegan2_files
from assemblies.models.stylegan_t import checkpoint as stylegan_t_files
from assemblies.models.stylenat import checkpoint as stylenat_files
from assemblies.models.vitgan import checkpoint as vitgan_files
from assemblies.models.vitgan import reimplementation_checkpoint as vitgan_reimplementation_files
from assemblies.unpickling.contents import Contents, contents_of
from assemblies.unpickling.files import read_file
from registry import Spec, SpecError
from registry.errors import nearest

IMPORTERS: list[Importer] = [
    stylenat_files.GENERATOR,
    stylenat_files.DISCRIMINATOR,
    vitgan_files.GENERATOR,
    vitgan_files.DISCRIMINATOR,
    vitgan_reimplementation_files.GENERATOR,
    vitgan_reimplementation_files.DISCRIMINATOR,
    styleformer_files.GENERATOR,
    stylegan2_files.GENERATOR,
    stylegan2_files.DISCRIMINATOR,
    stylegan_t_files.GENERATOR,
    stylegan_t_files.DISCRIMINATOR,
]
ROLES = ("G_ema", "G", "D")


class Imported(NamedTuple):
    """A network of ours with the tensors of a foreign file.

    Args:
        spec: What it is.
        state: Its tensors, by our names.
        wiring: What a discriminator is built with besides: resolution, image_channels, cond_dim.
        form: What form the file's network is of.
        role: Which of the file's networks it is: G_ema, G or D.
        layout: How the file holds it.
        notes: What its user has to know.
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
        """What the numbers of the images mean; None of a discriminator."""
        return self.spec.value_range if issubclass(self.spec.block, Generator) else None

    def save(self, path: str | Path, extra: dict[str, Any] | None = None) -> None:
        """Write it as a .safetensors file, whole or not at all."""
        told = {"context": dict(self.context)} if self.context else {"value_range": self.value_range}
        save_tensors(path, self.spec, self.state, told, extra)

    def build(self) -> nn.Module:
        """The network, in eval mode."""
        network: nn.Module = self.spec.build(**self.context)
        network.load_state_dict(self.state)
        return network.eval()


def import_network(path: str | Path, role: str | None = None, options: Mapping[str, Any] | None = None) -> Imported:
    """Read a network from a file that another library wrote. Nothing in the file is run.

    Args:
        path: A torch file, a pickle, or a foreign .safetensors.
        role: Which network, where there are several: G_ema, G or D; the averaged generator if there is one.
        options: What the file does not tell, or tells wrongly, by the names of the form's options.

    Raises:
        RefusedError: The file would run code.
        CheckpointError: It cannot be read, or is of no form known here, or does not say enough.
        SpecError: Its tensors are not those of the network that it describes; all of them are listed.
    """
    try:
        contents = contents_of(read_file(path), str(path))
    except RecursionError:
        raise CheckpointError(f"{path} is no checkpoint: what it holds is nested without end") from None
    role, importer = choose(contents, role, str(path))
    tensors, args = contents.networks[role]
    role = role or importer.roles[0]
    subject = f"{path} ({importer.form})"
    if unknown := [name for name in options or {} if name not in importer.options]:
        valid = f"has no option {unknown[0]}; {nearest(unknown[0], list(importer.options))}"
        raise CheckpointError(f"{subject} {valid}")
    try:
        conversion = importer.conversion(tensors, dict(args) | dict(options or {}))
        with torch.device("meta"):
            network = conversion.spec.build(**conversion.context)
        found = translate(conversion.rules, conversion.tensors, network, ignored=conversion.ignored, subject=subject)
    except SpecError as error:
        raise error.about(subject) from None
    except Lacking as error:
        raise CheckpointError(f"{subject}: {error}") from None
    except KeyError as error:
        raise CheckpointError(f"{subject} lacks {error}: another version of this form, or not all of it") from None
    wanted = network.state_dict()
    state = {name: value.detach().to(wanted[name].dtype).clone() for name, value in found.items()}
    notes = list(conversion.notes)
    if wrong := [name for name, value in state.items() if not value.isfinite().all()]:
        notes.append(f"{len(wrong)} tensors hold values that are not finite, the first is {wrong[0]}: it had diverged")
    return Imported(conversion.spec, state, conversion.context, importer.form, role, contents.layout, tuple(notes))


def choose(contents: Contents, role: str | None, subject: str) -> tuple[str, Importer]:
    """Which network of a file, and its form.

    Raises:
        CheckpointError: The file has no such network, or it is of no known form.
    """
    networks = contents.networks
    if "" in networks:
        importer = form_of(networks[""].tensors, subject)
        if role is not None and role not in importer.roles:
            raise CheckpointError(f"{subject} holds a {importer.form}, no {role}")
        return "", importer
    chosen = role or next(each for each in ROLES if each in networks)
    if chosen not in networks:
        raise CheckpointError(f"{subject} holds {', '.join(networks)}, but no {chosen}")
    importer = form_of(networks[chosen].tensors, f"{chosen} in {subject}")
    return chosen, importer


def form_of(tensors: Mapping[str, Tensor], subject: str) -> Importer:
    names = frozenset(tensors)
    for importer in IMPORTERS:
        if importer.recognises(names):
            return importer
    for sign, why in STRANGERS.items():
        if any(sign in name for name in names):
            raise CheckpointError(f"{subject} cannot be imported: {why}")
    some = ", ".join(sorted(names)[:4])
    raise CheckpointError(
        f"{subject} is of no form known here ({len(names)} tensors: {some} ...); known: "
        + ", ".join(importer.form for importer in IMPORTERS)
    )


STRANGERS = {
    "synthesis.L": "it is a StyleGAN3 generator, whose alias-free layers have no block here",
    "superres": "it is a generator with a superresolution stage, as StyleGAN-XL's and EG3D's, which has no block here",
}

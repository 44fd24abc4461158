"""Save and load models as folders of the Hugging Face Hub: model.safetensors, spec.json, README.md, samples.png.

Loading never runs code of the folder, and downloads `model.safetensors` only.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, cast

import torch
from huggingface_hub import ModelHubMixin, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from assemblies import Generator, save_model
from assemblies.condition import condition_input
from assemblies.model_file import read_metadata
from ganblocks.errors import UsageError, UserError
from ganblocks.metrics.records import FILE as METRICS
from ganblocks.metrics.records import read_records
from ganblocks.publishing.card import check_license, model_card
from ganblocks.sampling.generate import generate
from ganblocks.sampling.grids import save_grid
from ganblocks.sampling.load import MODEL, load, run_of
from ganblocks.sampling.pictures import made_by
from registry.text import excerpt

SAMPLES = 24
CONNECTION = cast(
    type[Exception], HfHubHTTPError.__mro__[1]
)  # base of the errors of the HTTP library, which differs between versions
FILES = (MODEL, "spec.json", "README.md", "samples.png", METRICS)


class HubError(UserError, RuntimeError):
    """A model that the Hub does not have or does not give, or a Hub that cannot be reached."""


class HubModel(ModelHubMixin, library_name="ganblocks"):
    """A generator with what is published beside it; the mixin uploads and downloads.

    Args:
        generator: The generator, in eval mode.
        name: Title of the model card.
        source: The run folder or model file that it came from, whose records go into the card.
        license: Identifier of the model's licence, as the Hub spells it.
    """

    def __init__(
        self, generator: Generator, name: str = "", source: str | Path | None = None, license: str | None = None
    ) -> None:
        self.generator, self.name, self.license = generator, name, license
        self.source = None if source is None else Path(source)
        self._hub_mixin_config = None  # no config.json with these arguments

    def _save_pretrained(self, save_directory: Path) -> None:
        generator, extra, metrics = self.generator, {}, []
        if self.source is not None:
            file = self.source / MODEL if self.source.is_dir() else self.source
            extra = read_metadata(file).get("extra", {})
            metrics = read_records(file.with_name(METRICS))
        save_model(save_directory / MODEL, generator, extra)
        (save_directory / "spec.json").write_text(json.dumps(generator.spec.to_dict(), indent=2) + "\n")
        if metrics:
            lines = "".join(json.dumps(record) + "\n" for record in metrics)
            (save_directory / METRICS).write_text(lines)
        picture = "samples.png" if condition_input(generator.spec) != "captions" else None
        if picture:
            images = generate(generator, range(SAMPLES))
            path = save_directory / picture
            save_grid(images, path, value_range=generator.value_range, metadata=made_by(generator))
        name = self.name or save_directory.name
        card = model_card(generator, name=name, extra=extra, metrics=metrics, picture=picture, license=self.license)
        (save_directory / "README.md").write_text(card)

    @classmethod
    def _from_pretrained(  # the parameters are the mixin's
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        device: str | torch.device = "cpu",
        allow_external: bool = False,
        **_ignored: Any,
    ) -> Self:
        file = hf_hub_download(
            model_id,
            MODEL,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )
        return cls(load(file, device, allow_external=allow_external), name=model_id, source=file)


def from_pretrained(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    device: str | torch.device = "cpu",
    allow_external: bool = False,
) -> Generator:
    """The generator of a repository on the Hub, of a folder or of a file, in eval mode.

    Args:
        name: A repository such as "user/model", a run folder, a folder that `save_pretrained` wrote, or a model file.
        revision: Branch, tag or commit of the repository.
        token: Access token; None for the one that `hf auth login` stored.
        device: The generator's device.
        allow_external: Whether to open other files and to download weights that the model file names.

    Raises:
        HubError: The Hub does not have the model, does not give it, or cannot be reached.
        CheckpointError: The file is damaged or does not fit its own spec.
        SpecError: The file names blocks that are not installed, or files that are not allowed.
    """
    if Path(name).exists():  # the mixin would warn that it has no config.json
        return load(name, device, allow_external=allow_external)
    with _hub_errors(str(name)):
        model = HubModel.from_pretrained(
            str(name), revision=revision, token=token, device=device, allow_external=allow_external
        )
    return model.generator


def save_pretrained(
    model: Generator | str | Path,
    folder: str | Path,
    *,
    name: str | None = None,
    license: str | None = None,
    allow_external: bool = False,
) -> None:
    """Write a folder that `from_pretrained` reads and the Hub shows: weights, spec, model card and samples.

    Args:
        model: A generator in eval mode, a run folder or a model file.
        folder: Where to write; files of the same names are replaced.
        name: Title of the model card; the folder's name by default.
        license: Identifier of the model's licence, one of the Hub's such as "apache-2.0".
        allow_external: As in `from_pretrained`.

    Raises:
        CheckpointError: `model` names no model.
        UsageError: `folder` is a file, or holds a training, whose model and metrics would be replaced, or the Hub has
            no licence of such a name.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; pass a folder")
    if (folder / "run.json").exists():
        raise UsageError(f"{folder} holds a training, whose files would be replaced; choose another folder")
    published = _published(model, name or folder.name, license, allow_external)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as scratch:
        published.save_pretrained(scratch)
        for file in FILES:
            (folder / file).unlink(missing_ok=True)  # an earlier model may have had more files
            if (written := Path(scratch) / file).exists():
                written.replace(folder / file)


def push_to_hub(
    model: Generator | str | Path,
    repo: str,
    *,
    private: bool = False,
    license: str | None = None,
    message: str = "Upload a model with ganblocks",
    token: str | None = None,
    allow_external: bool = False,
) -> str:
    """Upload a model with its spec, card and samples; returns the address of the commit.

    Args:
        model: A generator in eval mode, a run folder or a model file.
        repo: The repository, "user/model"; created if need be.
        private: Whether a new repository is private.
        license: Identifier of the model's licence, as in `save_pretrained`.
        message: Commit message.
        token: Access token; None for the one that `hf auth login` stored.
        allow_external: As in `from_pretrained`.

    Raises:
        HubError: The Hub refuses, or cannot be reached.
        CheckpointError: `model` names no model.
        UsageError: The Hub has no licence of such a name.
    """
    check_repository(repo)
    published = _published(model, repo, license, allow_external)
    with _hub_errors(repo):
        return str(published.push_to_hub(repo, commit_message=message, private=private or None, token=token))


def check_repository(name: str) -> None:
    """Refuse a text that cannot be the name of a repository on the Hub, which is not asked.

    Raises:
        HubError: It has other characters, more than one `/`, or a wrong length.
    """
    with _hub_errors(name):
        validate_repo_id(name)


def pull(repo: str, folder: str | Path, *, revision: str | None = None, token: str | None = None) -> Path:
    """Download the files of a model into a folder; returns the folder.

    Raises:
        HubError: The Hub does not have the model, does not give it, or cannot be reached.
        UsageError: The folder exists and is not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not an empty folder; choose another one")
    with _hub_errors(repo):
        snapshot_download(repo, revision=revision, token=token, local_dir=folder, allow_patterns=list(FILES))
    if not (folder / MODEL).is_file():
        raise HubError(f"{repo} has no {MODEL}: it is not a model of ganblocks")
    return folder


def _published(model: Generator | str | Path, name: str, license: str | None, allow_external: bool) -> HubModel:
    if license is not None:
        check_license(license)
    if isinstance(model, str | Path):
        model = run_of(model)
        return HubModel(load(model, allow_external=allow_external), name, model, license)
    return HubModel(model, name, None, license)


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    """A context that turns the Hub's errors into HubErrors with a cure."""
    try:
        yield
    except HFValidationError:
        raise HubError(f"{name} is neither a file, nor a folder, nor a repository's name such as user/model") from None
    except LocalEntryNotFoundError:
        fact = "the Hub cannot be reached, and the model was not downloaded before"
        raise HubError(f"{name}: {fact}; check the network and HF_ENDPOINT, or pass a local folder") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        cure = {
            401: "log in with `hf auth login`, or check the name",
            403: "your token does not allow this; check its rights",
            404: "check the name and the revision",
        }.get(status, f"it says: {excerpt(error.server_message, 200)}" if error.server_message else "try again later")
        raise HubError(f"{name}: the Hub answered {status}; {cure}") from None
    except ValueError as error:
        if not isinstance(error.__cause__, HfHubHTTPError):
            raise
        raise HubError(
            f"{name}: the Hub refuses the model card: {excerpt(' '.join(str(error).split()), 400)}"
        ) from None
    except CONNECTION as error:
        raise HubError(f"{name}: the Hub cannot be reached ({type(error).__name__}); check the network") from None

"""What fixes the numbers of a run beside its document: recorded when it starts, and kept when it resumes."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from assemblies import plugins_of
from assemblies.document_paths import differences
from assemblies.model_file import MAX_INTEGER
from ganblocks.data.dataset import Images
from ganblocks.data.sources import can_be_opened
from ganblocks.errors import RunError
from ganblocks.precision import Precision
from ganblocks.training.options import TrainOptions, resume_command
from ganblocks.training.run.shards import Shards
from registry import Spec
from registry.limits import data_problems

FORMAT = "ganblocks-run-1"
PACKAGES = ("ganblocks", "torch", "numpy", "safetensors", "accelerate")
DEFAULTS: dict[str, Any] = {
    "seed": 0,
    "precision": None,  # the device's
    "compile": False,
    "cuda_graphs": False,
    "deterministic": False,
    "init_generator": None,
    "init_discriminator": None,
}
IN_DOCUMENT = ("kimg", "batch_size", "flip", "resize_filter")  # options that replace a value of the document


class RunIdentity(BaseModel):
    """What has to stay the same, beside the document, so that a resumed run gives the same numbers.

    Args:
        seed: Random seed.
        precision: Precision of matrix products and convolutions.
        compile: Whether torch.compile compiles the networks.
        cuda_graphs: Whether CUDA graphs capture the steps.
        deterministic: Whether only deterministic algorithms run.
        init_generator: Run or model file that initialised the generator.
        init_discriminator: Run or model file that initialised the discriminator.
        data: Name of the data set.
        num_images: Number of its images.
        fingerprint: Hash over the data set.
        data_license: Licence and attribution of the data set.
        class_names: Names of the classes that the generator takes; empty without any.
        processes: Number of processes.
        micro_batch: Images of a process in one pass; None for all of a step.
        device: Type of the device.
        overrides: Values of the document that options replaced.
    """

    model_config = ConfigDict(frozen=True)

    seed: NonNegativeInt
    precision: Precision
    compile: bool = False
    cuda_graphs: bool = False
    deterministic: bool = False
    init_generator: str | None = None
    init_discriminator: str | None = None
    data: str
    num_images: PositiveInt
    fingerprint: str
    data_license: str = ""
    class_names: tuple[str, ...] = ()
    processes: PositiveInt
    micro_batch: PositiveInt | None = None
    device: str
    overrides: dict[str, Any] = {}


class RunRecord(RunIdentity):
    """What run.json and the metadata of a checkpoint say.

    Args:
        spec: The document.
        versions: Versions of Python and of packages.
        step: Training steps done.
        images: Real images in these steps.
        shards: Files with the tensors, if they are not in the checkpoint.
    """

    spec: dict[str, Any]
    versions: dict[str, str] = {}
    step: NonNegativeInt = 0
    images: NonNegativeInt = 0
    shards: Shards | None = None

    @classmethod
    def parse(cls, text: str, path: Path) -> RunRecord:
        """The record in JSON of the file at `path`.

        Raises:
            RunError: The text is damaged.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"])) or "JSON"
            raise RunError(f"{path} is damaged: {place}: {problem['msg']}") from None


def describe_run(identity: RunIdentity, spec: Spec, command: str) -> dict[str, Any]:
    """The record of a run, as JSON data.

    Raises:
        RunError: It has a value that could not be read again from a model file or checkpoint.
    """
    record = {
        **identity.model_dump(mode="json"),
        "spec": spec.to_dict(),
        "plugins": plugins_of(spec),
        "versions": versions(),
        "command": command,
    }
    for problem in data_problems(record, MAX_INTEGER):
        raise RunError(f"{problem.location}, which the files of the run would contain, {problem.message}")
    return record


def num_target_images(spec: Spec) -> int:
    """Length of a training in images: whole steps."""
    batch_size = int(spec.batch_size)
    return math.ceil(float(spec.kimg) * 1000 / batch_size) * batch_size


def versions() -> dict[str, str]:
    """Versions of what a training's numbers depend on."""
    return {"python": sys.version.split()[0], **{name: metadata.version(name) for name in PACKAGES}}


def document_overrides(options: TrainOptions, record: RunRecord | None) -> dict[str, Any]:
    """Values that replace the document's: those of the options, and of a resumed run all but its length."""
    kept = {} if record is None else {name: value for name, value in record.overrides.items() if name != "kimg"}
    return kept | {name: value for name in IN_DOCUMENT if (value := getattr(options, name)) is not None}


def fixed_settings(options: TrainOptions, record: RunRecord | None) -> dict[str, Any]:
    """Seed, precision, initial weights and more: the options of a new run, the record of a resumed one.

    Raises:
        RunError: An option contradicts the record.
    """
    chosen = {name: getattr(options, name) for name in DEFAULTS}
    chosen = {name: str(value) if isinstance(value, Path) else value for name, value in chosen.items()}
    chosen = {name: None if value is False else value for name, value in chosen.items()}  # a flag that is not given
    if record is None:
        return {name: DEFAULTS[name] if value is None else value for name, value in chosen.items()}
    for name, value in chosen.items():
        if value is not None and value != (recorded := getattr(record, name)):
            flag = f"--{name.replace('_', '-')}"
            start = "without it" if value is True else f"with {recorded}, not {value}"
            raise RunError(f"{flag}: the run was started {start}; omit {flag} to resume it")
    return {name: getattr(record, name) for name in DEFAULTS}


def resume_hint(progress: str, options: TrainOptions, out: Path, identity: RunIdentity) -> str:
    """How to continue an interrupted training that got so far."""
    command = resume_command(options, out, identity.processes)
    if not can_be_opened(identity.data):
        command = f"train(data=..., out={str(out)!r}, resume=True)"
    return f"stopped at {progress}; the state is saved. Continue with:\n  {command}"


def require_same_data(record: RunRecord, images: Images) -> None:
    """Check that a resumed run trains on the images that it was started with.

    Raises:
        RunError: The images are others.
    """
    cure = "to resume it, the data have to be the same"
    if len(images) != record.num_images:
        raise RunError(
            f"the run was started on {record.num_images} images, but {images.name} has {len(images)}; {cure}"
        )
    if images.fingerprint != record.fingerprint:
        raise RunError(
            f"{images.name} has as many images as the run was started on, but others "
            f"(fingerprint {images.fingerprint}, not {record.fingerprint}); {cure}"
        )


def environment_changes(record: RunRecord, identity: RunIdentity) -> list[str]:
    """Warnings about what differs from the run's start and changes its numbers."""
    torch_version = versions()["torch"]
    pairs = [
        ("processes", record.processes, identity.processes),
        ("micro-batches of", record.micro_batch or "all images", identity.micro_batch or "all images"),
        ("device", record.device, identity.device),
        ("torch", record.versions.get("torch", torch_version), torch_version),
    ]
    return [
        f"warning: the run was started with {name} {before}, it continues with {now}: "
        "its numbers will differ from those of an uninterrupted run"
        for name, before, now in pairs
        if before != now
    ]


def document_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Where two documents differ, as lines `path: old -> new`; length of training and versions may differ."""
    rows = [row for row in differences(old, new) if row.path != "kimg" and not row.path.startswith("plugins")]
    return [f"{row.path}: {_short(row.first)} -> {_short(row.second)}" for row in rows]


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and "kind" in value:
        return str(value["kind"])
    return f"{len(value)} items" if isinstance(value, list) and len(value) > 4 else str(value)

"""torch-fidelity, and the published weights of its networks.

torch-fidelity, Obukhov et al. 2020, https://github.com/toshas/torch-fidelity, whose numbers agree with those of the
original TensorFlow implementations.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch

from plugins.pretrained import check_reachable, download_error, find_file, find_in_folder
from plugins.torchvision import import_beside_torchvision
from registry import incompatible
from registry.external_files import check_external


class PublishedWeights(NamedTuple):
    """A file of weights: what it holds, its name, and where it is published."""

    title: str
    name: str
    url: str

    @property
    def sha256_prefix(self) -> str | None:
        """The first digits of the file's SHA-256, if its name ends with them, as names of torch.hub do."""
        match = re.search(r"-([0-9a-f]{8})\.pth$", self.name)
        return match[1] if match else None

    def __str__(self) -> str:
        return self.name + (f" (SHA-256 {self.sha256_prefix}...)" if self.sha256_prefix else "")


RELEASE = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"
INCEPTION = PublishedWeights(
    "the Inception network of FID",
    "weights-inception-2015-12-05-6726825d.pth",
    f"{RELEASE}/weights-inception-2015-12-05-6726825d.pth",
)
LPIPS = PublishedWeights("LPIPS for VGG16", "weights-vgg16-lpips.pth", f"{RELEASE}/weights-vgg16-lpips.pth")
VGG16 = PublishedWeights(
    "torchvision's VGG16", "vgg16-397923af.pth", "https://download.pytorch.org/models/vgg16-397923af.pth"
)


def module(name: str) -> ModuleType:
    """A module of torch-fidelity, imported when it is first used.

    Raises:
        IncompatibleError: The library cannot be imported.
    """
    try:
        import_beside_torchvision("torch_fidelity")
        return import_module(f"torch_fidelity.{name}")
    except ImportError as error:
        raise incompatible((), f"needs torch-fidelity: pip install torch-fidelity ({error})") from None


def find_weights(parameter: str, file: str | None, published: PublishedWeights) -> Path:
    """The file of weights, downloaded if necessary.

    Args:
        parameter: The option that names the file.
        file: Its value: a path, or a file's name in the folder GANBLOCKS_WEIGHTS; None for the published weights.
        published: The published weights.

    Raises:
        IncompatibleError: The weights are not available here, or may not be downloaded.
    """
    if file is not None:
        if (path := find_file(file)) is None:
            raise incompatible(parameter, f"the file {file!r} does not exist; give {published} from {published.url}")
        return path
    cached = Path(torch.hub.get_dir()) / "checkpoints" / published.name
    if (path := find_in_folder(published.name)) is not None or cached.is_file():
        return path or cached
    check_external(parameter, f"to download {published.url}")
    try:
        check_reachable(published.url)
        cached.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(published.url, str(cached), published.sha256_prefix, progress=False)
    except Exception as error:  # a download can fail in any way
        raise download_error(parameter, published.title, error, published.url, str(published)) from None
    return cached

"""A TorchScript file as a feature extractor, such as NVIDIA's Inception and VGG16 of StyleGAN's metrics.

TorchScript: https://docs.pytorch.org/docs/stable/jit.html. A file holds code, which runs in TorchScript's interpreter:
use files of sources that you trust.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from blocks.common.pretrained.frozen_module import find_weights_file
from blocks.common.pretrained.hashes import sha256_of
from blocks.families import FeatureExtractor
from registry import incompatible
from registry.external_files import check_external


class TorchScriptExtractor(FeatureExtractor, kind="torchscript"):
    """A TorchScript module that is called with images [B,3,H,W] of values 0 to 255.

    NVIDIA's files resize by themselves: inception-2015-12-05.pt with `{return_features: true}` gives the features of
    FID, vgg16.pt with `{return_features: true}` those of precision and recall, and with `{resize_images: false,
    return_lpips: true}` those of PPL.

    Args:
        weights: The file.
        arguments: Keyword arguments of each call.
        resize: How the module resizes images, in words, for records.

    Raises:
        IncompatibleError: The file does not exist, or is not TorchScript.
    """

    wants_published_weights = True

    def __init__(
        self,
        *,
        weights: str,
        arguments: dict[str, bool | int | float | str] = {},  # noqa: B006 (pydantic copies it)
        resize: str = "by the TorchScript module",
    ) -> None:
        super().__init__()
        check_external("weights", f"to open {weights}")
        if (path := find_weights_file(weights)) is None:
            raise incompatible("weights", f"the file {weights!r} does not exist; give a TorchScript file")
        self.arguments: dict[str, Any] = arguments
        self.resize_filter = resize
        self.weights = {"weights": path.name, "sha256": sha256_of(path)}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # there is no other way to read these files
                network: nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise incompatible("weights", f"{path} cannot be read as TorchScript: {reason}") from None
        self.network = network.eval()
        for parameter in self.network.parameters():  # script modules have no requires_grad_
            parameter.requires_grad_(False)

    def forward(self, images: Shaped[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        features: Any = self.network(images, **self.arguments)
        if not isinstance(features, Tensor) or features.ndim != 2:
            shape = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise incompatible("arguments", f"the module returned {shape} instead of features [B,F]")
        return features.float()

    def source(self) -> dict[str, str]:
        return self.weights

"""Feature extractors with weights that are made on the spot."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from plugins.fidelity.library import LPIPS, VGG16
from plugins.fidelity.networks import _torchvision


class Pooled(nn.Module):
    """Twelve features: means and maxima of six convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2)

    def forward(self, images: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        x = torch.relu(self.conv(images.float() / 127.5 - 1)) * scale
        return torch.cat([x.mean([2, 3]), x.amax([2, 3])], dim=1)


def save_extractor(path: Path) -> Path:
    """Write a TorchScript file of `Pooled`, whose weights are always the same."""
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Pooled().eval()).save(str(path))  # type: ignore[no-untyped-call]
    return path


def save_lpips(folder: Path) -> tuple[Path, Path]:
    """Write random weights of VGG16's convolutions and of LPIPS under the names of the published files."""
    torch.manual_seed(0)
    vgg = _torchvision().vgg
    features = vgg.make_layers(vgg.cfgs["D"])
    backbone = {f"features.{name}": value for name, value in features.state_dict().items()}
    lins = {f"lin{i}.model.1.weight": torch.rand(1, size, 1, 1) for i, size in enumerate((64, 128, 256, 512, 512))}
    torch.save(backbone, folder / VGG16.name)
    torch.save(lins, folder / LPIPS.name)
    return folder / VGG16.name, folder / LPIPS.name

"""The networks of FID, of precision and recall, and of the perceptual path length, as torch-fidelity has them.

Inception of TensorFlow's 2015-12-05 graph: Szegedy et al. 2015, https://arxiv.org/abs/1512.00567; VGG16: Simonyan and
Zisserman 2014, https://arxiv.org/abs/1409.1556; LPIPS: Zhang et al. 2018, https://arxiv.org/abs/1801.03924.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.pretrained.frozen_module import should_load_weights
from blocks.common.pretrained.hashes import sha256_of
from blocks.families import FeatureExtractor
from plugins.fidelity.library import INCEPTION, LPIPS, VGG16, PublishedWeights, find_weights, module
from plugins.pretrained import load_state_dict, read_state_dict
from plugins.torchvision import import_beside_torchvision
from registry import incompatible

TF1_BILINEAR = "bilinear of TensorFlow 1, without antialiasing, corners aligned at the top left"
TORCH_BILINEAR = "bilinear of PyTorch, without antialiasing"


class FromFile(FeatureExtractor):
    """A network whose weights come from a file."""

    weights: dict[str, str]

    def source(self) -> dict[str, str]:
        return self.weights


class Inception(FromFile, kind="inception"):
    """The Inception network of FID: 2048 features, and logits of 1008 classes without bias.

    Args:
        weights: File of torch-fidelity's or pytorch-fid's weights; null for torch-fidelity's, from the folder
            GANBLOCKS_WEIGHTS or torch.hub's cache, or downloaded.
        preprocessing: How images become the input. tensorflow: resized as TensorFlow 1 does, as FID's original code,
            StyleGAN's and ADM's metrics do. pytorch-fid: resized by PyTorch's bilinear filter.
    """

    wants_published_weights = True

    def __init__(
        self, *, weights: str | None = None, preprocessing: Literal["tensorflow", "pytorch-fid"] = "tensorflow"
    ) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.resize_filter = TF1_BILINEAR if preprocessing == "tensorflow" else TORCH_BILINEAR
        self.layers: Any = nn.ModuleDict(dict(_unloaded_inception().named_children()))
        self.weights = _load(self, self.layers, "weights", weights, INCEPTION)

    def forward(self, images: Shaped[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2048"]:
        x = images.to(self.layers["fc"].weight.dtype)
        if self.preprocessing == "tensorflow":
            x = (_tf1_resize(x, 299) - 128) / 128
        else:
            x = F.interpolate(x / 255, (299, 299), mode="bilinear", align_corners=False) * 2 - 1
        for name, layer in self.layers.items():
            x = x if name == "fc" else layer(x)
        return x.flatten(1)

    def logits(self, features: Float[Tensor, "n 2048"]) -> Float[Tensor, "n 1008"]:
        weight: Tensor = self.layers["fc"].weight
        return features.to(weight) @ weight.T


class VGG16Features(FromFile, kind="vgg16"):
    """The last hidden layer of VGG16, 4096 features, as in precision and recall.

    Args:
        weights: File of torchvision's weights; null for the published file, from the folder GANBLOCKS_WEIGHTS or
            torch.hub's cache, or downloaded.
    """

    wants_published_weights = True
    resize_filter = TF1_BILINEAR

    def __init__(self, *, weights: str | None = None) -> None:
        super().__init__()
        self.network: Any = _torchvision().vgg16(init_weights=False)
        self.weights = _load(self, self.network, "weights", weights, VGG16)
        self.network.classifier = self.network.classifier[:4]

    def forward(self, images: Shaped[Tensor, "b 3 h w"]) -> Float[Tensor, "b 4096"]:
        x = _tf1_resize(images.to(self.network.features[0].weight.dtype), 224)
        mean, std = (x.new_tensor(each)[:, None, None] * 255 for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        return F.relu(self.network((x - mean) / std))


class LPIPSFeatures(FromFile, kind="lpips"):
    """Features of VGG16 whose squared distance is LPIPS; images are not resized.

    Args:
        weights: File with the weights of LPIPS (lin0 to lin4); null for torch-fidelity's copy, from the folder
            GANBLOCKS_WEIGHTS or torch.hub's cache, or downloaded.
        backbone_weights: File of torchvision's VGG16; null as for `weights`.
    """

    wants_published_weights = True
    ends = (3, 8, 15, 22, 29)  # the activations that are compared

    def __init__(self, *, weights: str | None = None, backbone_weights: str | None = None) -> None:
        super().__init__()
        vgg = _torchvision().vgg
        self.network = vgg.make_layers(vgg.cfgs["D"])
        holder = nn.ModuleDict({"features": self.network})
        backbone = _load(self, holder, "backbone_weights", backbone_weights, VGG16)
        channels = (64, 128, 256, 512, 512)
        self.lins: Any = nn.ModuleDict(
            {f"lin{i}": nn.Conv2d(size, 1, 1, bias=False) for i, size in enumerate(channels)}
        )
        names = {f"lin{i}.model.1.weight": f"lin{i}.weight" for i in range(len(channels))}
        self.weights = _load(self, self.lins, "weights", weights, LPIPS, names)
        self.weights |= {f"backbone_{name}": value for name, value in backbone.items()}
        if self.weights and any(weight.min().item() < 0 for weight in self.lins.parameters()):
            raise incompatible("weights", "has negative weights, with which LPIPS is not a squared distance")

    def forward(self, images: Shaped[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        x = images.to(self.network[0].weight.dtype) / 127.5 - 1
        shift, scale = (x.new_tensor(each)[:, None, None] for each in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
        x = (x - shift) / scale
        parts = []
        for number, layer in enumerate(self.network[: self.ends[-1] + 1]):
            x = layer(x)
            if number in self.ends:
                weight = self.lins[f"lin{self.ends.index(number)}"].weight / (x.shape[2] * x.shape[3])
                unit = x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
                parts.append((unit * weight.view(1, -1, 1, 1).sqrt()).flatten(1))
        return torch.cat(parts, dim=1)


def _unloaded_inception() -> nn.Module:
    """torch-fidelity's network with random weights; its constructor would read a pickle, which may run code."""

    class Unloaded(module("feature_extractor_inceptionv3").FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, *_: object) -> None:
            """Nothing: `_load` reads the weights."""

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    network: nn.Module = Unloaded("inception-v3-compat", ["2048"], feature_extractor_weights_path=empty)
    return network


def _torchvision() -> Any:
    import_beside_torchvision("torchvision")
    return import_beside_torchvision("torchvision.models")


def _load(
    extractor: nn.Module,
    network: nn.Module,
    parameter: str,
    file: str | None,
    published: PublishedWeights,
    names: dict[str, str] | None = None,
) -> dict[str, str]:
    """Load a file's tensors, some under other names; returns the file's name and hash."""
    extractor.requires_grad_(False).eval()
    if not should_load_weights():
        return {}
    path: Path = find_weights(parameter, file, published)
    tensors = {(names or {}).get(name, name): value for name, value in read_state_dict(path).items()}
    load_state_dict(network, tensors, path)
    return {"weights": path.name, "sha256": sha256_of(path)}


def _tf1_resize(images: Float[Tensor, "b c h w"], side: int) -> Float[Tensor, "b c i j"]:
    resize = module("interpolate_compat_tensorflow").interpolate_bilinear_2d_like_tensorflow1x
    resized: Tensor = resize(images, size=(side, side), align_corners=False)
    return resized

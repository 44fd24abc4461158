"""Networks of timm as backbones: their tokens, their weights, and errors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from blocks.common.pretrained.frozen_module import WEIGHTS_ENV, FrozenModule, list_frozen_modules
from plugins import pretrained, timm_networks
from plugins.timm import TimmFeatures
from registry import IncompatibleError, SpecValidationError
from tests.assemblies.checkpoint_files import Call

TINY = {"embed_dim": 8, "depth": 4, "num_heads": 2, "patch_size": 4}
SMALL: dict[str, Any] = {"network": "vit_small_patch16_224", "arguments": TINY, "image_size": (16, 20)}


def tiny(**options: Any) -> TimmFeatures:
    torch.manual_seed(0)
    return TimmFeatures(3, **{"weights": None, **SMALL, **options})


def weights(path: Path, *, seed: int = 1, classifier: bool = False) -> dict[str, torch.Tensor]:
    """A file of weights for the small network."""
    torch.manual_seed(seed)
    tensors = dict(TimmFeatures(3, weights=None, **SMALL).network.network.state_dict())
    content = tensors | ({"head.weight": torch.zeros(3, 8), "head.bias": torch.zeros(3)} if classifier else {})
    save_file(content, path) if path.suffix == ".safetensors" else torch.save({"model": content}, path)
    return tensors


def test_sizes_come_from_the_network() -> None:
    block = tiny()
    tokens = block(torch.rand(2, 3, 32, 32))
    assert block.input_size == (16, 20)
    assert [tuple(each.shape) for each in tokens] == [(2, 4 * 5, 8)] * 5, "four depths, and the first input"
    assert block.network.depths == (1, 2, 3, 4, 0)


def test_dino_has_the_depths_and_the_size_of_the_paper() -> None:
    with torch.device("meta"):
        block = TimmFeatures(3)
        tokens = block(torch.zeros(1, 3, 64, 64))
    assert block.input_size == (224, 224)
    assert block.network.network.depths == (3, 6, 9, 12, 0)
    assert block.num_parameters == 21_665_664
    assert {tuple(each.shape) for each in tokens} == {(1, 196, 384)}


def test_dinov2_accepts_a_smaller_image_size() -> None:
    with torch.device("meta"):
        native = TimmFeatures(3, network="vit_small_patch14_dinov2.lvd142m")
        fewer = TimmFeatures(3, network="vit_small_patch14_dinov2.lvd142m", image_size=224)
        assert fewer(torch.zeros(1, 3, 64, 64))[0].shape[1] == 16 * 16
    assert native.input_size == (518, 518)


def test_the_class_token_is_added_or_dropped() -> None:
    image = torch.rand(1, 3, 16, 20)
    added, dropped = tiny(depths=(2,))(image)[0], tiny(depths=(2,), class_token="drop")(image)[0]
    difference = added - dropped
    torch.testing.assert_close(difference, difference[:, :1].expand_as(difference))
    assert difference.abs().max() > 1e-3


def test_the_class_token_may_be_the_first_token_and_the_last_norm_applied() -> None:
    image = torch.rand(1, 3, 16, 20)
    first, dropped = tiny(depths=(4,), class_token="first"), tiny(depths=(4,), class_token="drop")
    tokens = first(image)[0]
    assert tokens.shape == (1, 1 + 4 * 5, 8)
    torch.testing.assert_close(tokens[:, 1:], dropped(image)[0])
    normed = tiny(depths=(4, 2), class_token="first", norm=True)
    last, earlier = normed(image)
    network = normed.network.network
    features = network.forward_features(image * normed.scale + normed.shift)  # timm's own: all tokens after the norm
    torch.testing.assert_close(last, features)
    torch.testing.assert_close(earlier, tiny(depths=(2,), class_token="first")(image)[0])


@pytest.mark.parametrize(("option", "value"), [("norm", True), ("class_token", "first")])
def test_options_of_plain_transformers_are_refused_for_other_networks(option: str, value: Any) -> None:
    with pytest.raises(IncompatibleError, match=f"{option} .* needs a plain vision transformer, and resnet18 is none"):
        TimmFeatures(3, network="resnet18", weights=None, image_size=32, depths=(1,), **{option: value})


def test_images_are_normalised_as_in_the_networks_training() -> None:
    block = tiny(network="vit_small_patch16_224.dino")
    white = torch.ones(1, 3, 16, 20) * block.scale + block.shift
    torch.testing.assert_close(
        white[0, :, 0, 0], torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, 0.594 / 0.225])
    )


def test_grey_images_become_rgb() -> None:
    torch.manual_seed(0)
    of_grey, of_rgb = (TimmFeatures(channels, weights=None, **SMALL) for channels in (1, 3))
    of_rgb.load_state_dict(of_grey.state_dict())
    grey = torch.rand(2, 1, 16, 20)
    torch.testing.assert_close(of_grey(grey), of_rgb(grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(
    "network", ["resnet18", "convnext_atto", "swin_tiny_patch4_window7_224", "tf_efficientnet_lite0"]
)
def test_other_networks_output_the_maps_of_their_stages(network: str) -> None:
    with torch.device("meta"):
        block = TimmFeatures(3, network=network, weights=None)
        tokens = block(torch.zeros(1, 3, *block.input_size))
    assert len(tokens) == 4
    assert all(each.ndim == 3 for each in tokens)
    assert tokens[0].shape[1] > tokens[-1].shape[1], "later stages have fewer pixels"


def test_a_frozen_network_is_not_trained_keeps_its_mode_and_passes_gradients() -> None:
    block = tiny(network="resnet18", arguments={}, image_size=(32, 32)).train()
    before = {name: value.clone() for name, value in block.state_dict().items()}
    image = torch.rand(2, 3, 32, 32, requires_grad=True)
    sum(tokens.square().sum() for tokens in block(image)).backward()
    assert image.grad is not None
    assert image.grad.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in block.parameters())
    assert not any(part.training for part in block.modules()), "batch norms would move their statistics"
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_weights_are_loaded_from_a_file_and_not_saved(tmp_path: Path, name: str) -> None:
    tensors = weights(tmp_path / name, classifier=True)
    block = tiny(weights=str(tmp_path / name))
    assert isinstance(block.network, FrozenModule)
    loaded = block.network.network.network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in tensors.items())
    assert block.state_dict() == {}
    (reference,) = list_frozen_modules(block).values()
    assert reference["timm"] == "vit_small_patch16_224"
    assert len(reference["sha256"]) == 64


def test_embedded_weights_are_saved(tmp_path: Path) -> None:
    weights(tmp_path / "weights.pth")
    block = tiny(weights=str(tmp_path / "weights.pth"), embed_weights=True)
    assert sum(value.numel() for value in block.state_dict().values()) == block.num_parameters


def test_weights_by_the_networks_name_are_found_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = weights(tmp_path / "vit_small_patch16_224.dino.safetensors")
    monkeypatch.setenv(WEIGHTS_ENV, str(tmp_path))
    block = tiny(network="vit_small_patch16_224.dino", weights="pretrained")
    loaded = block.network.network.network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in tensors.items())


def test_offline_the_error_says_how_to_provide_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(pretrained, "getproxies", dict)
    monkeypatch.setattr(pretrained.socket, "getaddrinfo", unknown)
    monkeypatch.setattr(timm_networks, "cached_file", lambda repository, names: None)
    with pytest.raises(IncompatibleError) as error:
        TimmFeatures(3)
    for part in ("timm/vit_small_patch16_224.dino", "Name or service not known", WEIGHTS_ENV, ".safetensors"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "vit_smal_patch16_224"}, "unknown network 'vit_smal_patch16_224'; did you mean 'vit_small_"),
        ({"image_size": (18, 16)}, "18 x 16 pixels do not split into patches of 4 x 4"),
        ({"depths": (1, 5)}, "VisionTransformer has depths 0 to 4, not 5"),
        ({"depths": ()}, "is empty; VisionTransformer has depths 0 to 4"),
        ({"network": "resnet18", "arguments": {}, "depths": (0,)}, "ResNet has depths 1 to 5, not 0"),
        ({"weights": "nowhere.pth"}, "the file 'nowhere.pth' does not exist; give a file, or pretrained"),
        ({"arguments": {"depht": 2}}, "timm cannot build vit_small_patch16_224 with them"),
        ({"arguments": {"depth": 10**7}}, "arguments.depth   is 10000000; at most 1,000 is possible"),
        ({"arguments": {"embed_dim": 2**21}}, "arguments.embed_dim   is 2097152; at most 1,048,576 is possible"),
        ({"image_size": (16, 8192)}, "image_size   is (16, 8192); at most 4,096 is possible"),
    ],
)
def test_errors_name_the_fact_and_the_cure(options: dict[str, Any], message: str) -> None:
    with pytest.raises((IncompatibleError, SpecValidationError)) as error:
        tiny(**options)
    assert message in str(error.value)


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(
        IncompatibleError, match=r"other.safetensors is not of this network: .* is missing; .*, and \d+ more"
    ):
        tiny(weights=str(tmp_path / "other.safetensors"))
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    with pytest.raises(IncompatibleError, match=r"cannot be read: .*broken.safetensors is damaged"):
        tiny(weights=str(tmp_path / "broken.safetensors"))


def test_images_of_other_channels_are_refused() -> None:
    with pytest.raises(IncompatibleError, match="RGB or grey images, not 4 channels"):
        TimmFeatures(4, weights=None, **SMALL)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save(
        {"model": Path("x"), "hook": torch.nn.functional.relu, "call": Call(os.system, "true")}, tmp_path / "a.pth"
    )
    with pytest.raises(IncompatibleError, match=r"is refused: it would run posix\.system"):
        tiny(weights=str(tmp_path / "a.pth"))


def test_a_network_is_compared_with_its_file_before_memory_is_allocated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights(tmp_path / "weights.safetensors")
    devices = []
    create = timm_networks.create

    def recorded(name: str, options: dict[str, Any]) -> Any:
        devices.append(torch.get_default_device().type)
        return create(name, options)

    monkeypatch.setattr(timm_networks, "create", recorded)
    with pytest.raises(IncompatibleError, match="is not of this network"):
        tiny(weights=str(tmp_path / "weights.safetensors"), arguments=TINY | {"embed_dim": 2**19})
    assert set(devices) == {"meta"}

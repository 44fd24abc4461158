"""The networks compute what torch-fidelity's do, from weights made on the spot."""

from __future__ import annotations

import re

import pytest
import torch

from plugins.fidelity import library
from plugins.fidelity.library import LPIPS, module
from plugins.fidelity.networks import Inception, LPIPSFeatures, VGG16Features, _torchvision, _unloaded_inception
from registry import IncompatibleError
from tests.extractors import save_lpips


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(_unloaded_inception().state_dict(), path)
    return path


@pytest.fixture
def images():
    return torch.randint(256, (2, 3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_inception_computes_the_features_and_logits_of_torch_fidelity(inception_file, images):
    theirs = module("feature_extractor_inceptionv3").FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(inception_file)
    )
    features, logits = theirs(images)
    ours = Inception(weights=str(inception_file))
    torch.testing.assert_close(ours(images), features, rtol=0, atol=0)
    torch.testing.assert_close(ours.logits(features), logits, rtol=0, atol=0)
    assert ours.source()["weights"] == "inception.pth"
    assert len(ours.source()["sha256"]) == 64


def test_inception_preprocesses_like_pytorch_fid(inception_file, images):
    other = Inception(weights=str(inception_file), preprocessing="pytorch-fid")
    tensorflow = Inception(weights=str(inception_file))
    large = images.new_zeros(1, 3, 299, 299)
    large[:] = torch.arange(299)[None, None, :, None].clamp(max=255).to(torch.uint8)
    # without resizing they differ in the scale of the input alone: x / 127.5 - 1 and (x - 128) / 128
    as_pytorch = large.double() / 127.5 * 128
    torch.testing.assert_close(other.double()(large), tensorflow.double()(as_pytorch), rtol=1e-9, atol=1e-12)
    assert other.resize_filter != tensorflow.resize_filter


@pytest.fixture(scope="module")
def lpips_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    backbone, lins = (torch.load(file) for file in save_lpips(folder))
    vgg = _torchvision().vgg
    features = vgg.make_layers(vgg.cfgs["D"])
    features.load_state_dict({name.removeprefix("features."): value for name, value in backbone.items()})
    return folder, features, lins


def test_the_squared_distance_of_features_is_lpips(lpips_files, monkeypatch):
    folder, features, lins = lpips_files
    theirs_module = module("sample_similarity_lpips")
    network = torch.nn.Module()
    network.features = features
    monkeypatch.setattr(theirs_module, "torchvision_load_pretrained_vgg16", lambda: network)
    monkeypatch.setattr(theirs_module, "load_state_dict_from_url", lambda *_, **__: lins)
    theirs = theirs_module.SampleSimilarityLPIPS("lpips-vgg16")
    monkeypatch.setenv("GANBLOCKS_WEIGHTS", str(folder))
    ours = LPIPSFeatures()
    a, b = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        expected = theirs(a, b).flatten()
        distance = (ours(a) - ours(b)).square().sum(1)
    torch.testing.assert_close(distance, expected, rtol=1e-4, atol=0)
    assert set(ours.source()) == {"weights", "sha256", "backbone_weights", "backbone_sha256"}


@pytest.mark.slow
def test_vgg16_computes_the_features_of_torch_fidelity(tmp_path, images):
    torch.manual_seed(0)
    torch.save(_torchvision().vgg16().state_dict(), tmp_path / "vgg.pth")
    theirs = module("feature_extractor_vgg16").FeatureExtractorVGG16(
        "vgg16", ["fc2_relu"], feature_extractor_weights_path=str(tmp_path / "vgg.pth")
    )
    ours = VGG16Features(weights=str(tmp_path / "vgg.pth"))
    torch.testing.assert_close(ours(images), theirs(images)[0], rtol=1e-5, atol=1e-6)


def test_missing_weights_are_named_with_their_address(tmp_path, monkeypatch):
    monkeypatch.setenv("GANBLOCKS_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def unreachable(url):
        raise OSError("no network")

    monkeypatch.setattr(library, "check_reachable", unreachable)
    with pytest.raises(IncompatibleError) as caught:
        Inception()
    message = str(caught.value)
    assert "no network" in message
    assert "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/" in message
    assert "weights-inception-2015-12-05-6726825d.pth (SHA-256 6726825d...)" in message
    assert "GANBLOCKS_WEIGHTS" in message
    assert not list(tmp_path.glob("**/*.pth"))
    with pytest.raises(IncompatibleError, match=re.escape("the file 'absent.pth' does not exist")):
        Inception(weights="absent.pth")


def test_weights_of_another_network_are_refused(lpips_files):
    with pytest.raises(IncompatibleError, match="is not of this network"):
        Inception(weights=str(lpips_files[0] / LPIPS.name))

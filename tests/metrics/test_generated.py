"""Quantisation, conditions and protocols of generated images."""

from __future__ import annotations

import pytest
import torch

from assemblies import parse
from ganblocks.data.digits import digits
from ganblocks.errors import DataError
from ganblocks.metrics.conditions import Conditions
from ganblocks.metrics.generated import generated_batches, quantise, to_rgb
from ganblocks.metrics.protocols import PROTOCOLS
from ganblocks.pixels import from_symmetric, to_bytes
from tests import tiny


def pixel(value, quantisation, value_range="symmetric"):
    return quantise(torch.tensor([[[[value]]]]), value_range, quantisation).item()


def test_quantisation_follows_the_protocols():
    assert [pixel(value, "round") for value in (-2.0, -1.0, 0.0, 0.99, 1.0, 2.0)] == [0, 0, 128, 254, 255, 255]
    assert [pixel(value, "floor") for value in (-2.0, -1.0, 0.0, 0.99, 1.0, 2.0)] == [0, 0, 127, 253, 255, 255]
    levels = torch.linspace(-1, 1, 256)
    for quantisation in ("round", "floor"):
        found = quantise(levels.view(1, 1, 16, 16) + 1e-4, "symmetric", quantisation).flatten()
        assert found.tolist() == list(range(256))
    # bfloat16 has 8 bits: above 128 it holds integers only, so that 178.9 becomes 179
    assert pixel((178.9 - 128) / 127.5, "round") == 178
    assert pixel((178.9 - 128) / 127.5, "round-bfloat16") == 179


def test_every_value_range_gives_the_same_bytes():
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = quantise(images, "symmetric", "round")
    for value_range in ("unit", "imagenet"):
        other = quantise(from_symmetric(images, value_range), value_range, "round")
        assert (other.int() - expected.int()).abs().max() <= 1
    assert (to_bytes(images, "symmetric").int() - expected.int()).abs().max() == 0


def test_grey_images_become_rgb_and_others_are_refused():
    grey = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    assert to_rgb(grey).shape == (2, 3, 4, 4)
    with pytest.raises(DataError, match="4 channels"):
        to_rgb(torch.zeros(2, 4, 4, 4))


def generator(**changes):
    torch.manual_seed(0)
    return parse(tiny.GENERATOR | changes).build().eval()


def classes(conditions, num):
    c, captions = conditions.of(range(num))
    assert captions is None
    return c.argmax(1)


def test_classes_are_drawn_as_the_protocol_says():
    labelled = digits("train", 16, 3)
    labelled.labels = torch.full((len(labelled),), 7)
    model = generator(cond_dim=10)
    assert (classes(Conditions(model, labelled, "data", 50, 0), 50) == 7).all()
    assert classes(Conditions(model, None, "balanced", 12, 0), 12).tolist() == [*range(10), 0, 1]
    uniform = classes(Conditions(model, None, "uniform", 2000, 0), 2000)
    assert (uniform.bincount(minlength=10) > 140).all()
    assert classes(Conditions(model, None, "uniform", 2000, 0), 2000).equal(uniform)
    with pytest.raises(DataError, match=r"10 classes.*--labels uniform"):
        Conditions(model, None, "data", 10, 0)
    assert Conditions(generator(), None, "data", 10, 0).of([0, 1]) == (None, None)


def test_images_do_not_depend_on_the_batch_size_with_constant_noise():
    model = generator()
    protocol = PROTOCOLS["stylegan-full"].with_changes(noise="const")
    images = []
    for size in (3, 8):
        batches = generated_batches(
            model, Conditions(model, None, "data", 8, 0), range(8), protocol, seed=4, batch_size=size, precision="fp32"
        )
        with torch.no_grad():
            images.append(torch.cat([batch.images for batch in batches]).int())
    assert (images[0] - images[1]).abs().max() <= 1
    assert images[0].shape == (8, 3, 16, 16)


def test_protocols_are_those_of_the_papers():
    assert set(PROTOCOLS) == {"stylegan-full", "stylenat-50k", "r3gan", "gat-adm"}
    assert all(each.num == 50_000 for each in PROTOCOLS.values())
    assert PROTOCOLS["stylenat-50k"].reference_num == 50_000
    assert PROTOCOLS["stylenat-50k"].extractors["fid"]["preprocessing"] == "pytorch-fid"
    assert PROTOCOLS["r3gan"].quantisation == "round-bfloat16"
    assert (PROTOCOLS["gat-adm"].quantisation, PROTOCOLS["gat-adm"].labels) == ("floor", "uniform")
    assert PROTOCOLS["gat-adm"].truncation_psi == pytest.approx(1 - 0.3)

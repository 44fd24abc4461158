"""ViTGAN's implicit patch head, as the authors' code has it: with a mapping of the token and noise for each pixel."""

from __future__ import annotations

from torch import Tensor
from torch.func import functional_call

from blocks.readout.inr_patches import INRPatches
from tests.golden.recipe import Fixture, adapter


@adapter("vitgan", "off_cips")
def inr_patches(fixture: Fixture) -> dict[str, Tensor]:
    arch, tensors, token = fixture.config["arch"], fixture.tensors, fixture.inputs["token"]
    first, *rest = arch["channels"]
    assert len(rest) == 1, "a head with colours at several depths is none of ours"
    block = INRPatches(
        arch["style_dim"],
        patch_size=arch["size"],
        hidden_dims=(first, *(width for width in rest for _ in range(2))),
        mapping_layers=arch["n_mlp"],
    ).to(fixture.dtype)
    ours = {
        f"mapping.{i}.{name}": tensors[f"style.{i + 1}.{name}"]
        for i in range(arch["n_mlp"])
        for name in ("weight", "bias")
    }
    ours["fourier.linear.weight"] = tensors["lff.ffm.conv.weight"].flatten(1)
    ours["fourier.linear.bias"] = tensors["lff.ffm.conv.bias"]
    theirs = ["conv1", *(f"layers.{i}" for i in range(2 * len(rest)))]
    for number, name in enumerate(theirs):
        # noise enters before the bias: a bias for each token and pixel says the same
        noise = fixture.inputs[f"noise:{name}.noise"].flatten(1)[:, :, None]
        ours[f"layers.{number}.bias"] = tensors[f"{name}.activate.bias"] + tensors[f"{name}.noise.weight"] * noise
    for mine, name in [*((f"layers.{i}", name) for i, name in enumerate(theirs)), ("to_rgb", "to_rgbs.0")]:
        ours[f"{mine}.weight"] = tensors[f"{name}.conv.weight"].flatten(2)[0].flatten(1)
        ours[f"{mine}.affine.weight"] = tensors[f"{name}.conv.modulation.weight"]
        ours[f"{mine}.affine.bias"] = tensors[f"{name}.conv.modulation.bias"] + 1
    ours["to_rgb.bias"] = tensors["to_rgbs.0.bias"].flatten()
    ours |= dict(block.named_buffers())
    x = token[:, :, None, None]  # each token a map of one
    image = functional_call(block, ours, (x, x.new_zeros(len(x), 0, 1)), strict=True)
    patch = 0.5 * image + 0.5
    return {"patch_train": patch, "patch_eval": patch.clamp(0, 1)}
